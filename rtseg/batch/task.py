"""What a worker gets and returns: plain values that travel between processes and machines."""

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
ENCODER_THREADS = 1  # it affects the result, so it is the same on every machine


@dataclass(frozen=True)
class Look:
    """How the overlay looks."""

    opacity: float = 0.5
    legend: bool = True
    show: tuple[str, ...] | None = None
    unsure: float | None = None


@dataclass(frozen=True)
class Segment:
    """Frames `first` to `stop` - 1, which are made together, completely or not at all."""

    number: int
    first: int
    stop: int


@dataclass(frozen=True)
class Task:
    """Consecutive segments of one input that a worker makes in one pass.

    Attributes:
        job: number of the input within the batch.
        name: the start of its outputs' names.
        source: the video, or the name for all pictures together.
        pictures: the picture files; empty for a video.
        partial: the folder for unfinished work.
        single: a single picture, not a row: its overlay is NAME.png.
        save: kinds of outputs.
        strip: indices of the frames for the picture strip.
        aspect: width of a pixel divided by its height as shown, or None.
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
        areas: int64 (n, classes), pixels of each class; (n, 0) if they are not wanted.
        before: CRC-32 of the picture before its first, as decoded in this pass; None if there is none.
        last: CRC-32 of its last picture; None if that could not be decoded.
        size: total bytes of its files.
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
    """A task has ended; `figures` are from the loop (`LoopReport.to_json`)."""

    job: int
    figures: dict[str, Any]


class WorkerLost(Exception):
    """A worker ended without a message: killed, out of memory, crashed, or its machine is gone."""


class Defect(RtsegError):
    """An unexpected error with one input."""

    @classmethod
    def of(cls, error: Exception) -> Self:
        """One with the error's text, which can travel between processes, and its cause, which stays in this process."""
        defect = cls(f"{type(error).__name__}: {error}")
        defect.__cause__ = error
        return defect


@dataclass(frozen=True)
class TaskFailed:
    """A task has ended with an error; segments announced before are complete.

    Attributes:
        first: number of the task's first segment.
        full: the disk is full, so nothing else can succeed either.
    """

    job: int
    first: int
    error: Exception
    full: bool = False

    @classmethod
    def of(cls, task: Task, error: Exception) -> Self:
        """Makes one with as much of the error as can travel between processes."""
        known = isinstance(error, RtsegError | WorkerLost) and len(error.args) == 1
        told = error if known else Defect.of(error)
        return cls(task.job, task.segments[0].number, told, is_full(error))


@dataclass(frozen=True)
class Progress:
    """This many more frames of an input were begun."""

    job: int
    frames: int


@dataclass(frozen=True)
class Loaded:
    """An engine was loaded for a network."""

    model: str
    info: EngineInfo


Event = SegmentDone | TaskDone | TaskFailed | Progress | Loaded
