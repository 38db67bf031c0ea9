"""What a worker is given and what it gives back; plain values that travel between processes and machines."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from rtseg.core.errors import RtsegError
from rtseg.core.files import is_full
from rtseg.core.runspec import RunSpec
from rtseg.engines import EngineInfo
from rtseg.sources.span import Span

CRF, PRESET = 23, "superfast"
ENCODER_THREADS = 1  # it decides the pictures, so it is the same on every machine


@dataclass(frozen=True)
class Look:
    """What the overlay looks like."""

    opacity: float = 0.5
    legend: bool = True
    show: tuple[str, ...] | None = None
    unsure: float | None = None


@dataclass(frozen=True)
class Segment:
    """Frames `first` to `stop` - 1, which are made as one and are whole or absent."""

    number: int
    first: int
    stop: int


@dataclass(frozen=True)
class Task:
    """A row of segments of one input that a worker makes in one pass.

    Attributes:
        job: number of the input within the batch.
        name: what its outputs' names begin with.
        source: the video, or what the pictures are called together.
        pictures: the picture files; empty for a video.
        partial: the folder for unfinished work.
        single: one picture, not a row: its overlay is NAME.png.
        save: kinds of outputs.
        strip: indices of the frames that go into the picture strip.
        aspect: width of a pixel by its height as shown, or None.
        steady: average the scores over time; the span then begins with the frames that this needs.
    """

    job: int
    name: str
    source: Path
    pictures: tuple[Path, ...]
    partial: Path
    single: bool
    save: tuple[str, ...]
    network: RunSpec
    look: Look
    span: Span
    segments: tuple[Segment, ...]
    strip: tuple[int, ...] = ()
    aspect: Fraction | None = None
    steady: bool = False

    @property
    def confident(self) -> bool:
        """Whether the confidence of every pixel is needed."""
        return "confidence" in self.save or self.look.unsure is not None


@dataclass(frozen=True)
class SegmentDone:
    """A segment whose files are in place.

    Attributes:
        indices: int64 (n,), of the frames that could be decoded.
        ticks: int64 (n,), their timestamps, 0 for the input's first frame.
        areas: int64 (n, classes), pixels of each class; (n, 0) where they are not wanted.
        before: CRC-32 of the picture before its first, as this pass decoded it; None if there is none.
        last: CRC-32 of its last picture; None if that could not be decoded.
        size: bytes of all its files.
    """

    job: int
    segment: Segment
    indices: np.ndarray = field(compare=False)
    ticks: np.ndarray = field(compare=False)
    areas: np.ndarray = field(compare=False)
    before: int | None
    last: int | None
    size: int


@dataclass(frozen=True)
class TaskDone:
    """A task that has ended; `figures` are those of the loop (`LoopReport.to_json`)."""

    job: int
    figures: dict[str, Any]


class WorkerLost(Exception):
    """A worker has ended without a word: killed, out of memory, crashed, or its machine is gone."""


class Defect(RtsegError):
    """Something that should not happen, with one input."""

    @classmethod
    def of(cls, error: Exception) -> Self:
        """In words, which survive the way to another process; within this one also with where it came from."""
        defect = cls(f"{type(error).__name__}: {error}")
        defect.__cause__ = error
        return defect


@dataclass(frozen=True)
class TaskFailed:
    """A task that has ended with an error; segments that were announced before are whole.

    Attributes:
        first: number of the task's first segment.
        full: the disk is full, so that nothing else can succeed either.
    """

    job: int
    first: int
    error: Exception
    full: bool = False

    @classmethod
    def of(cls, task: Task, error: Exception) -> Self:
        """With the error as far as it survives the way to another process."""
        known = isinstance(error, RtsegError | WorkerLost) and len(error.args) == 1
        told = error if known else Defect.of(error)
        return cls(task.job, task.segments[0].number, told, is_full(error))


@dataclass(frozen=True)
class Progress:
    """So many more frames of an input were begun."""

    job: int
    frames: int


@dataclass(frozen=True)
class Loaded:
    """An engine was loaded for a network."""

    model: str
    info: EngineInfo


Event = SegmentDone | TaskDone | TaskFailed | Progress | Loaded
