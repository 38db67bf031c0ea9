"""What a batch reads and writes: the inputs that the arguments stand for, and the names of their outputs."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from rtseg.core.addresses import without_password
from rtseg.core.errors import InputError, OutputError, UsageError
from rtseg.core.files import NAME_MAX
from rtseg.core.paths import matches, real_path, user_path, walk
from rtseg.core.registry import unknown_name
from rtseg.sources.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_of, skipped_note

log = logging.getLogger(__name__)

SAVES = (
    "overlay", "labels", "label-video", "areas", "strip", "summary", "coco", "cvat", "labelme", "frames", "confidence",
)  # fmt: skip
GROUPS = {"polygons": ("cvat", "labelme")}  # words that stand for several outputs
_FOLDERS = ("labels", "labelme", "frames", "confidence")  # outputs that are folders of files
LIST_SUFFIX = ".txt"
PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True)
class Job:
    """One input, and the names of its outputs; it does not change, whatever happens to its files during the run.

    Attributes:
        source: a video, a picture or a folder of pictures.
        folder: where outputs go.
        save: the outputs to make, from `SAVES`.
    """

    source: Path
    folder: Path
    save: tuple[str, ...]

    @property
    def name(self) -> str:
        """The start of the outputs' names."""
        return Path(os.path.abspath(self.source)).name if self.is_folder else self.source.stem

    @property
    def path(self) -> str:
        """The source for `open_source`: always a path, even if it looks like a camera's number."""
        return os.path.join(os.curdir, self.source)

    @cached_property
    def is_folder(self) -> bool:
        """Whether this is a folder of pictures."""
        return os.path.isdir(self.source)

    @cached_property
    def pictures(self) -> bool:
        """Whether this is a picture or a folder of pictures; then the overlay is pictures too."""
        return self.is_folder or kind_of(self.source) == "picture"

    def output_name(self, kind: str) -> str:
        """The name of the file or folder for a kind of output."""
        if kind == "overlay":
            if self.is_folder:
                return f"{self.name}_overlay"
            return f"{self.name}.png" if self.pictures else f"{self.name}.mp4"
        suffixes = {"label-video": ".mkv", "areas": ".csv", "strip": ".png", "summary": ".json", "coco": ".json",
                    "cvat": ".xml"}  # fmt: skip
        return f"{self.name}_{'labels' if kind == 'label-video' else kind}{suffixes.get(kind, '')}"

    def target(self, kind: str) -> Path:
        """The final name of an output."""
        return self.folder / self.output_name(kind)

    @property
    def targets(self) -> list[Path]:
        """The final names of all outputs to make."""
        return [self.target(kind) for kind in self.save]

    @property
    def _longest(self) -> int:
        """Bytes of the longest name that is needed."""
        names = [path.name for path in (self.partial, *self.targets)] + [f"{self.name}.json"]
        return max(len(os.fsencode(name)) for name in names)

    @property
    def nameable(self) -> bool:
        """Whether file systems allow the names of all its outputs."""
        return self._longest <= NAME_MAX

    def check_names(self) -> None:
        """Checks the outputs' names and places.

        Raises:
            InputError: a name would be longer than file systems allow.
            OutputError: a folder is in the place of a file, or a file in the place of a folder.
        """
        if (length := self._longest) > NAME_MAX:
            raise InputError(
                f"{self.source}: its name is too long, since outputs need up to {length} bytes and file systems take "
                f"{NAME_MAX}: rename it"
            )
        for kind in self.save:
            target, folder = self.target(kind), kind in _FOLDERS or (kind == "overlay" and self.is_folder)
            if target.exists() and os.path.isdir(target) != folder:
                is_, wanted = ("file", "folder") if folder else ("folder", "file")
                raise OutputError(
                    f"{target} is a {is_}, and {kind} would be a {wanted} of that name: move it, or choose another "
                    "--output"
                )

    @property
    def partial(self) -> Path:
        """Where outputs are made."""
        return self.folder / f"{self.name}{PARTIAL_SUFFIX}"


def is_pattern(text: str) -> bool:
    """Whether the text may stand for several names."""
    return any(sign in text for sign in "*?[")


def parse_save(text: str) -> tuple[str, ...]:
    """'overlay,polygons' -> ('overlay', 'cvat', 'labelme'); raises UsageError for an unknown word."""
    words = [word.strip() for word in text.split(",")]
    kinds = tuple(dict.fromkeys(kind for word in words for kind in GROUPS.get(word, (word,))))
    for kind in kinds:
        if kind not in SAVES:
            raise unknown_name("output for --save", kind, [*SAVES, *GROUPS])
    return kinds


def find_jobs(inputs: Sequence[str], output: Path, save: tuple[str, ...]) -> list[Job]:
    """Finds what to do, checked as far as possible before any work is done.

    Args:
        inputs: videos, pictures, folders (searched recursively), patterns, and .txt files that list these.
        output: the folder for outputs; subfolders of an input folder are repeated in it.
        save: kinds of outputs.

    Raises:
        UsageError: nothing to do, clashing names, or an output that would replace an input.
        InputError: a list cannot be read.
    """
    found: dict[Path, tuple[Path, Path]] = {}  # an input that is named twice counts once
    for source, below in (pair for text in inputs for pair in _find(text, output)):
        found.setdefault(real_path(source.parent) / source.name, (source, below))
    if not found:
        raise UsageError("no input is given: name one or more videos, pictures, folders or lists of them")
    jobs = [Job(source, output / below, save) for source, below in found.values()]
    _check_names(jobs)
    return jobs


def _find(text: str, output: Path, listed: bool = False) -> Iterator[tuple[Path, Path]]:
    """The inputs for an argument or a line of a list, each with the place of its outputs below the output folder."""
    if "://" in text:
        shown = without_password(text)
        raise UsageError(f"{shown} is not a file: for a stream use rtseg-cam --source URL --no-window --record OUT.mp4")
    path = user_path(text)
    # os.path ignores refusals by the system (name too long, no access); the input reports them later
    if os.path.isdir(path):
        yield from _walk(path, output)
    elif path.suffix.lower() == LIST_SUFFIX and os.path.isfile(path):
        for line in _lines(path):
            yield from _find(line if "://" in line else str(path.parent / user_path(line)), output, listed=True)
    elif os.path.lexists(path):  # also a broken link: opening it raises the error
        yield path, Path()
    else:  # for shells that do not expand patterns
        found = _matches(path, output)
        for match in found:
            if not (listed and match.suffix.lower() == LIST_SUFFIX):  # it may be the list itself
                yield from _find(str(match), output, listed)
        if not found:
            yield path, Path()


def _matches(pattern: Path, output: Path) -> list[Path]:
    """Matches of a pattern, without those in an output folder below its root or in unfinished work."""
    plain = list(takewhile(lambda part: not is_pattern(part), pattern.parts))
    root, target = real_path(Path(*plain)), real_path(output)
    found = []
    for match in map(Path, matches(str(pattern))):
        here = real_path(match)
        ours = root in target.parents and (here == target or target in here.parents)
        unfinished = any(part.endswith(PARTIAL_SUFFIX) for part in match.parts[len(plain) :])
        if not (ours or unfinished or (match.is_dir() and "**" in pattern.parts)):
            found.append(match)
    return found


def _lines(path: Path) -> list[str]:
    """The entries of a list, one per line; skips empty lines and those that start with #."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of inputs (UTF-8, one a line): {error}") from error
    entries = [line for line in lines if line and not line.startswith("#")]
    if any(Path(entry).suffix.lower() == LIST_SUFFIX for entry in entries):
        raise UsageError(f"{path} lists another list: name the videos themselves")
    return entries


def _walk(root: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Every video in a folder and below, and every folder with pictures, except in the output folder."""
    if real_path(root) == real_path(output):
        raise UsageError(f"{root} is both input and output: choose another --output")
    found = False
    for here, below, files in walk(root):
        below[:] = [
            name for name in below
            if not name.startswith(".") and not name.endswith(PARTIAL_SUFFIX)
            and real_path(here / name) != real_path(output)
        ]  # fmt: skip
        suffixes = {name: Path(name).suffix.lower() for name in files if not name.startswith(".")}
        place = here.relative_to(root)
        pictures = any(suffix in IMAGE_SUFFIXES for suffix in suffixes.values())
        if pictures:  # reading the pictures reports other files
            found = True
            yield here, place.parent
        elif others := [name for name, suffix in suffixes.items() if suffix not in VIDEO_SUFFIXES]:
            log.warning("%s: %s", here, skipped_note(others))
        for name, suffix in suffixes.items():
            if suffix in VIDEO_SUFFIXES:
                found = True
                yield here / name, place
    if not found:
        yield root, Path()  # opening it raises the error


def _check_names(jobs: Sequence[Job]) -> None:
    first: dict[str, Job] = {}
    for job in jobs:
        # some file systems ignore case
        names = {str(path).casefold() for path in (job.partial, *job.targets)}
        for other in (first.setdefault(name, job) for name in names):
            if other is not job:
                raise UsageError(
                    f"{other.source} and {job.source} would get the same output name {job.name!r}: rename one, "
                    "or label them with different --output folders"
                )
    sources = {real_path(job.source): job.source for job in jobs}
    above = {parent: source for path, source in sources.items() for parent in path.parents}
    for job in jobs:
        for target in map(real_path, (*job.targets, job.partial)):
            if (source := sources.get(target) or above.get(target)) is not None:
                raise UsageError(f"output {target} would replace the input {source}: choose another --output")
