"""Finds out how much a batch has to do, without doing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

from rtseg.batch.jobs import Job
from rtseg.batch.journal import Journal
from rtseg.batch.layout import JOURNAL
from rtseg.batch.plan import picture_paths
from rtseg.core.errors import RtsegError
from rtseg.core.sizes import Size
from rtseg.sources.open import open_source
from rtseg.sources.video_index import estimate_frames

_FEW = 5


@dataclass(frozen=True)
class Glance:
    """What has to be done for an input.

    Attributes:
        job: the input.
        frames: approximate number of frames; 0 if unknown.
        kept: frames that an earlier run has finished.
        size_hw: (height, width) of its first frame.
        done: all its outputs exist.
        error: why it cannot be read.
    """

    job: Job
    frames: int = 0
    kept: int = 0
    size_hw: Size = (0, 0)
    done: bool = False
    error: RtsegError | None = None

    @property
    def left(self) -> int:
        """Frames still to label."""
        return max(0, self.frames - self.kept) if self.wanted else 0

    @property
    def wanted(self) -> bool:
        """Whether anything has to be done, even if only joining."""
        return not (self.done or self.error)

    @property
    def failure(self) -> str | None:
        """Why it cannot be read, in words."""
        return None if self.error is None else str(self.error)


def first_size(jobs: Sequence[Job]) -> Size | None:
    """(height, width) of the frames of the first input that can be opened; None if none of the first few can."""
    for job in jobs[:_FEW]:
        try:
            with open_source(job.path, threads=1) as source:
                return source.size_hw
        except RtsegError:
            continue  # the batch reports it
    return None


def glance(job: Job, overwrite: bool) -> Glance:
    """Opens an input and reads its first frame."""
    try:
        job.check_names()
        kept = _kept(job.partial)
        if not overwrite and all(target.exists() for target in job.targets):
            return Glance(job, done=True)
        with open_source(job.path, threads=1) as source:
            size_hw = source.size_hw
        frames = len(picture_paths(job)) if job.pictures else estimate_frames(job.source) or 0
    except RtsegError as error:
        return Glance(job, error=error)
    return Glance(job, frames, min(kept, frames), size_hw)


def _kept(partial: Path) -> int:
    if not (partial / JOURNAL).is_file():
        return 0
    with Journal(partial) as journal:
        return sum(len(done.indices) for done in journal.segments())


def largest_of_a_few(jobs: Sequence[Job]) -> list[Job]:
    """A few of the first readable inputs, with the largest frames first, since those need the most memory."""
    open_ones = (one for one in (glance(job, overwrite=True) for job in jobs) if one.wanted)
    few = sorted(islice(open_ones, _FEW), key=lambda one: prod(one.size_hw), reverse=True)
    return [one.job for one in few]


def frames_at_a_glance(jobs: Sequence[Job], enough: int) -> int:
    """The approximate number of frames; stops counting at `enough`."""
    frames = 0
    for job in jobs:
        try:
            frames += len(picture_paths(job)) if job.pictures else estimate_frames(job.source) or 0
        except RtsegError:
            continue  # opening it raises the error
        if frames >= enough:
            break
    return frames
