"""How much a batch has to do, without doing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.batch.jobs import Job
from rtseg.batch.journal import Journal
from rtseg.batch.layout import JOURNAL
from rtseg.batch.plan import picture_paths
from rtseg.core.errors import RtsegError
from rtseg.core.sizes import Size
from rtseg.vision.sources import open_source
from rtseg.vision.video_index import estimate_frames


@dataclass(frozen=True)
class Glance:
    """What is to do about an input.

    Attributes:
        job: the input.
        frames: as its head announces them; 0 where it says nothing.
        kept: frames that an earlier run has finished.
        size_hw: (height, width) of its first frame.
        done: all its outputs are there.
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
        """Frames to label."""
        return 0 if self.done or self.error else max(0, self.frames - self.kept)


def glance(job: Job, overwrite: bool) -> Glance:
    """Opens an input and reads its first frame."""
    try:
        kept = _kept(job.partial)
        if not overwrite and all(target.exists() for target in job.targets):
            return Glance(job, done=True)
        with open_source(Path(".") / job.source, threads=1) as source:
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


def first_that_opens(jobs: Sequence[Job]) -> Job:
    """The first input that can be read, or the first one."""
    return next((job for job in jobs if glance(job, overwrite=True).left), jobs[0])


def frames_at_a_glance(jobs: Sequence[Job], enough: int) -> int:
    """About how many frames there are; stops counting at `enough`."""
    frames = 0
    for job in jobs:
        try:
            frames += len(picture_paths(job)) if job.pictures else estimate_frames(job.source) or 0
        except RtsegError:
            continue  # whoever opens it says what is wrong
        if frames >= enough:
            break
    return frames
