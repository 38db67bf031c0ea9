"""What `rtseg-video` reads and writes: names, folders for unfinished work, and what became of each input."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from rtseg.core.errors import OutputError, RtsegError, UsageError
from rtseg.core.files import write_json
from rtseg.core.registry import unknown_name

if TYPE_CHECKING:
    from rtseg.runtime.report import LoopReport

SAVES = ("overlay", "labels")


@dataclass(frozen=True)
class Job:
    """One input, and the names of its outputs.

    Attributes:
        source: a video, a picture or a folder of pictures.
        folder: where outputs go.
        save: what is wanted, of `SAVES`.
    """

    source: Path
    folder: Path
    save: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the outputs' names begin with."""
        return self.source.resolve().name if self.source.is_dir() else self.source.stem

    @property
    def overlay(self) -> str:
        """Pictures become pictures, anything else a video."""
        from rtseg.vision.sources import IMAGE_SUFFIXES

        if self.source.is_dir():
            return f"{self.name}_overlay"
        return f"{self.name}.png" if self.source.suffix.lower() in IMAGE_SUFFIXES else f"{self.name}.mp4"

    @property
    def labels(self) -> str:
        """The folder of label maps."""
        return f"{self.name}_labels"

    @property
    def targets(self) -> list[Path]:
        """Final names of all outputs."""
        names = {"overlay": self.overlay, "labels": self.labels}
        return [self.folder / names[kind] for kind in self.save]

    @property
    def partial(self) -> Path:
        """Where outputs are made."""
        return self.folder / f"{self.name}.partial"

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder whose contents get their final names when the block ends without an error.

        After an error it stays as it is, unless it holds nothing.

        Raises:
            OutputError: the folder cannot be made, or an output cannot get its name.
        """
        with _writing(self.partial):
            if self.partial.exists():
                shutil.rmtree(self.partial)
            self.partial.mkdir(parents=True)
        try:
            yield self.partial
            for path in sorted(self.partial.iterdir()):
                target = self.folder / path.name
                with _writing(target):
                    if path.is_dir() and target.is_dir():
                        shutil.rmtree(target)
                    os.replace(path, target)
        finally:
            if not any(path.is_file() for path in self.partial.rglob("*")):
                shutil.rmtree(self.partial, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another --output") from error


def parse_save(text: str) -> tuple[str, ...]:
    """'overlay,labels' -> ('overlay', 'labels'); raises UsageError for anything not in `SAVES`."""
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    for kind in kinds:
        if kind not in SAVES:
            raise unknown_name("output for --save", kind, list(SAVES))
    return kinds


def plan(inputs: Sequence[str], folder: Path, save: tuple[str, ...], overwrite: bool) -> list[Job]:
    """What to do, checked as far as it can be before any work is done.

    Raises:
        UsageError: nothing to do, names that clash, or an output that would replace an input.
        OutputError: an output exists already.
    """
    jobs = [Job(path, folder, save) for text in inputs for path in _find(text)]
    if not jobs:
        raise UsageError("no input is given: name one or more videos, pictures or folders of pictures")
    _check_names(jobs)
    existing = [path for job in jobs for path in job.targets if path.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more outputs exist" if len(existing) > 1 else " exists"
        raise OutputError(f"{existing[0]}{more} already: add --overwrite, or choose another --output")
    return jobs


def _find(text: str) -> list[Path]:
    """The files that an argument means; patterns are for shells that do not expand them."""
    if "://" in text:
        raise UsageError(f"{text} is no file: for a stream use rtseg-cam --source URL --no-window --record OUT.mp4")
    path = Path(text).expanduser()
    found = [] if path.exists() else sorted(glob(str(path)))
    return [Path(match) for match in found] or [path]


def _check_names(jobs: Sequence[Job]) -> None:
    first: dict[str, Job] = {}
    for job in jobs:
        other = first.setdefault(job.name.casefold(), job)  # some file systems do not tell cases apart
        if other is not job:
            raise UsageError(
                f"{other.source} and {job.source} would get the same output name {job.name!r}: rename one, "
                "or label them with different --output folders"
            )
    sources = [job.source.resolve() for job in jobs]
    for target in (target.resolve() for job in jobs for target in job.targets):
        for source in sources:
            if target == source or target in source.parents:
                raise UsageError(f"output {target} would replace the input {source}: choose another --output")


@dataclass
class Outcome:
    """What became of an input.

    Attributes:
        job: the input.
        report: the loop's figures, once it has run.
        error: what it failed with.
        notes: what the user should know about its outputs.
    """

    job: Job
    report: "LoopReport | None" = None
    error: BaseException | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def failure(self) -> str | None:
        """What it failed with, in words."""
        return None if self.error is None else str(self.error) or "interrupted"

    @property
    def outputs(self) -> list[Path]:
        """What there is now: the outputs, or the folder with the unfinished ones."""
        return [path for path in ([self.job.partial] if self.error else self.job.targets) if path.exists()]

    def check_length(self, frame_count: int | None) -> None:
        """Notes where a source ended before the number of frames that it had announced."""
        read = self.report.frames + self.report.corrupt if self.report else 0
        if frame_count and read < frame_count:
            self.notes.append(f"{self.job.source} is cut short: it ended after {read} of {frame_count} frames")

    def to_json(self) -> dict[str, Any]:
        figures = self.report.to_json() if self.report else {}
        outputs = [str(path) for path in self.outputs]
        about = {"input": str(self.job.source), "outputs": outputs, "error": self.failure, "notes": self.notes}
        return {**about, **figures}


def error_of(failed: Sequence[Outcome], inputs: int) -> RtsegError:
    """One error for all: that of the only input as it is, else of the first one's kind, naming every input."""
    first = failed[0].error
    assert isinstance(first, RtsegError)
    if inputs == 1:
        return first
    said = []
    for outcome in failed:
        name, failure = outcome.job.source.name, str(outcome.failure)
        said.append(failure if name in failure else f"{name}: {failure}")
    return type(first)(f"{len(failed)} of {inputs} inputs failed: {'; '.join(said)}")


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """One row an input."""
    table = Table("input", "frames", "fps", "corrupt", "output")
    for outcome in outcomes:
        report = outcome.report
        figures = [str(report.frames), f"{report.fps:.1f}", str(report.corrupt)] if report else ["-", "-", "-"]
        said = [f"failed: {outcome.failure}"] if outcome.error else []
        said += [str(path) for path in outcome.outputs]
        table.add_row(Text(str(outcome.job.source)), *figures, Text("\n".join(said)))
    return table


def write_report(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes every input's figures, and what they were measured on, as JSON."""
    from rtseg.runtime.environment import environment

    write_json(path, {"inputs": [outcome.to_json() for outcome in outcomes], "environment": environment()})
