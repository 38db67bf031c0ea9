"""File names inside NAME.partial, the folder of unfinished work, and which of them may be deleted."""

import os
import re
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from rtseg.batch.task import Segment, SegmentDone

JOURNAL = "journal.sqlite"
_OWN_FILES = re.compile(r"journal\.sqlite(-wal|-shm|-journal)?")
_PASS = re.compile(r"work-[0-9a-f]{32}")
_OWN_FOLDERS = re.compile(r"segments|work-[0-9a-f]{32}")
_NUMBERED = re.compile(r"(frame_)?\d{6,}\.(png|jpg|json)")


class Layout:
    """The files of one input while it is in work.

    Each pass makes segments in its own folder, `work-…`, and moves them into place when they are complete. So a pass
    that was given up for lost but still runs cannot damage anything.
    """

    def __init__(self, partial: Path, name: str, single: bool = False) -> None:
        self.partial = partial
        self._name = name
        self._single = single
        self.segments = partial / "segments"

    def work(self, token: str) -> Path:
        """The folder of a pass; `token` is 32 hexadecimal digits."""
        return self.partial / f"work-{token}"

    def overlay(self, segment: Segment) -> Path:
        """A segment's overlay video."""
        return self.segments / f"{segment.number:06d}.mp4"

    def label_video(self, segment: Segment) -> Path:
        """A segment's label video."""
        return self.segments / f"{segment.number:06d}.mkv"

    def strip(self, index: int) -> Path:
        """A frame's part of the picture strip."""
        return self.segments / f"strip_{index:06d}.png"

    def label(self, index: int) -> Path:
        """A frame's label map."""
        return self.partial / f"{self._name}_labels" / f"{index:06d}.png"

    def picture(self, index: int) -> Path:
        """The overlay of a picture in a row, or of a single picture."""
        if self._single:
            return self.partial / f"{self._name}.png"
        return self.partial / f"{self._name}_overlay" / f"{index:06d}.png"

    def coco(self, segment: Segment) -> Path:
        """A segment's part of the COCO file."""
        return self.segments / f"{segment.number:06d}.coco"

    def cvat(self, segment: Segment) -> Path:
        """A segment's part of the CVAT file."""
        return self.segments / f"{segment.number:06d}.cvat"

    def labelme(self, index: int) -> Path:
        """A frame's LabelMe file."""
        return self.partial / f"{self._name}_labelme" / f"{index:06d}.json"

    def frame(self, index: int) -> Path:
        """A frame as a picture."""
        return self.partial / f"{self._name}_frames" / f"{index:06d}.jpg"

    def confidence(self, index: int) -> Path:
        """The confidence of a frame's pixels."""
        return self.partial / f"{self._name}_confidence" / f"{index:06d}.png"

    def files(self, save: Iterable[str], done: SegmentDone, strip: Iterable[int], pictures: bool) -> list[Path]:
        """Every file of a segment."""
        indices = done.indices.tolist()
        files: list[Path] = []
        if not indices:
            return files
        if "overlay" in save:
            files += [self.picture(index) for index in indices] if pictures else [self.overlay(done.segment)]
        if "labels" in save:
            files += [self.label(index) for index in indices]
        for kind, of_frame in (("labelme", self.labelme), ("frames", self.frame), ("confidence", self.confidence)):
            if kind in save:
                files += [of_frame(index) for index in indices]
        for kind, of_segment in (("label-video", self.label_video), ("coco", self.coco), ("cvat", self.cvat)):
            if kind in save:
                files.append(of_segment(done.segment))
        return files + [self.strip(index) for index in strip if index in done.indices]


def picture_name(index: int, pictures: Sequence[Path] = ()) -> str:
    """A frame's name for annotation tools: its picture's own name, or CVAT's name for frames of a video."""
    return pictures[index].name if pictures else f"frame_{index:06d}.jpg"


def final_names(index: int, pictures: Sequence[Path] = ()) -> dict[str, str]:
    """For the files that a frame may have in a folder: name while it is made -> name in the output."""
    stem = Path(picture_name(index, pictures)).stem
    return {
        f"{index:06d}.png": f"{index:06d}.png",
        f"{index:06d}.json": f"{stem}.json",
        f"{index:06d}.jpg": f"{stem}.jpg",
    }


def is_ours(partial: Path) -> bool:
    """Whether this program made the folder: it has a journal, or only what interrupted passes have left."""
    return (partial / JOURNAL).is_file() or all(_PASS.fullmatch(path.name) for path in partial.iterdir())


def clean_passes(partial: Path) -> None:
    """Removes the files of interrupted passes."""
    for folder in partial.glob("work-*"):
        if _PASS.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def remove_partial(partial: Path, outputs: Iterable[str]) -> None:
    """Removes the folder of unfinished work; files that this program did not make stay, and so does the folder."""
    for path in partial.iterdir() if partial.is_dir() else ():
        if path.is_dir() and _OWN_FOLDERS.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_dir() and path.name in outputs:
            remove_numbered(path)
        elif path.name in outputs:
            path.unlink()
    for path in partial.glob(f"{JOURNAL}*"):  # last: without it the folder would not count as ours
        if _OWN_FILES.fullmatch(path.name):
            path.unlink()
    _remove_if_empty(partial)


def remove_numbered(folder: Path, keep: Container[str] = ()) -> None:
    """Removes files that have this program's names, except for `keep`, and the folder if it is then empty."""
    for path in folder.iterdir():
        if _NUMBERED.fullmatch(path.name) and path.name not in keep:
            path.unlink()
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def move_into_place(made: Path, target: Path, names: Mapping[str, str]) -> None:
    """Gives an output its final name; in an existing folder, only what this program made is replaced.

    Args:
        made: the file or folder.
        target: its final name.
        names: everything that belongs in a folder, with its name there; an interrupted call may have moved some of it.
    """
    if not made.is_dir():
        os.replace(made, target)
        return
    target.mkdir(exist_ok=True)
    for path in made.iterdir():
        os.replace(path, target / names.get(path.name, path.name))
    remove_numbered(target, keep=set(names.values()))
    made.rmdir()
