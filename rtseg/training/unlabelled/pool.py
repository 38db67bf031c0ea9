"""The unlabelled pictures of a run: those of a folder, and frames of its videos."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from rtseg.core.errors import InputError, OutputError, UsageError
from rtseg.core.paths import walk
from rtseg.datasets import DataSet
from rtseg.datasets.check import ALIKE_BITS, difference_hash
from rtseg.sources.images import read_image
from rtseg.sources.kinds import IMAGE_SUFFIXES, kind_of
from rtseg.sources.video import VideoSource

log = logging.getLogger(__name__)

_QUALITY = 95  # of the JPEG files of frames


@dataclass(frozen=True)
class Pool:
    """Pictures without labels.

    Attributes:
        paths: readable files, pictures first, then video frames.
        names: their names in the user's folder: `park/1.png`, or `drive.mp4#30` for frame 30 of a video.
        frames: number of video frames.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    frames: int

    def identity(self) -> dict[str, Any]:
        """The entry for a card: their number, and the hash of their names."""
        digest = hashlib.sha256(json.dumps(self.names).encode()).hexdigest()
        return {"pictures": len(self.paths) - self.frames, "frames": self.frames, "sha256": digest}


def gather(folder: Path, every_s: float, run: Path, holdouts: Sequence[DataSet]) -> Pool:
    """Finds the pictures in a folder, at any depth, and takes a frame of its videos every `every_s` seconds.

    Frames are stored as JPEG below `run/unlabelled`, so that a resumed run does not read the videos again.

    Raises:
        InputError: there is nothing to read, or a file cannot be read.
        UsageError: a picture of a holdout is among them.
        OutputError: a frame cannot be stored.
    """
    found = _files(folder, run)
    pictures = [path for path in found if kind_of(path) == "picture"]
    videos = [path for path in found if kind_of(path) == "video"]
    if not pictures and not videos:
        raise InputError(f"--unlabelled {folder} holds no picture and no video: give a folder that does, of any depth")
    console = Console(stderr=True)  # bars, because reading all files may take minutes
    bar = partial(track, console=console, transient=True, disable=not console.is_terminal)
    with ThreadPoolExecutor() as pool:
        for _ in bar(pool.map(partial(_check, folder), pictures), "pictures without labels", total=len(pictures)):
            pass
    _check_not_held_out(pictures, holdouts)
    frames = [frame for path in bar(videos, "frames of videos") for frame in _kept_frames(path, folder, every_s, run)]
    names = [path.relative_to(folder).as_posix() for path in pictures] + [name for _, name in frames]
    log.warning("learning from %d pictures without labels and from %d frames of %d videos, one every %g s",
                len(pictures), len(frames), len(videos), every_s)  # fmt: skip
    return Pool((*pictures, *(path for path, _ in frames)), tuple(names), len(frames))


def _files(folder: Path, run: Path) -> list[Path]:
    """All files below the folder, except hidden ones and those of the run's folder, if it is inside."""
    if not folder.is_dir():
        raise InputError(f"--unlabelled {folder} is not a folder: give one that holds pictures or videos")
    own = run.resolve() if run.resolve().is_relative_to(folder.resolve()) else None
    return [
        here / name
        for here, _, names in walk(folder)
        for name in names
        if not name.startswith(".") and not (own and (here / name).resolve().is_relative_to(own))
    ]


def _check(folder: Path, path: Path) -> None:
    try:
        read_image(path)
    except InputError as error:
        raise InputError(f"{error}; repair it or take it out of --unlabelled {folder}") from error


def _check_not_held_out(pictures: list[Path], holdouts: Sequence[DataSet]) -> None:
    """Raises UsageError for a picture with the name and the content of a holdout's; a name such as 0001 is no proof."""
    held: dict[str, list[tuple[DataSet, int]]] = {}
    for data in holdouts:
        for index, name in enumerate(data.picture_names()):
            held.setdefault(_bare(name), []).append((data, index))
    for path in pictures:
        for data, index in held.get(_bare(path.name), []):
            ours, theirs = difference_hash(read_image(path)), difference_hash(data.sample(index).image)
            if np.bitwise_count(ours ^ theirs).sum() <= ALIKE_BITS:
                raise UsageError(
                    f"{path} is a picture of the holdout {data.split}, which must not be learned from: "
                    "take the holdout's pictures out of --unlabelled, or give other --holdouts"
                )


def _bare(name: str) -> str:
    """A picture's name without folders and suffix."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _kept_frames(video: Path, folder: Path, every_s: float, run: Path) -> Iterator[tuple[Path, str]]:
    """(file, name) of the frames of a video; reads it unless an earlier start has finished it."""
    name = video.relative_to(folder).as_posix()
    told = f"{name} {video.stat().st_size} {every_s!r}"
    kept = run / "unlabelled" / hashlib.sha256(os.fsencode(told)).hexdigest()[:16]
    if not kept.is_dir():
        part = kept.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            _take_frames(video, every_s, part)
            part.rename(kept)
        except OSError as error:
            raise OutputError(f"cannot keep frames in {kept}: {error.strerror or error}; check the folder and free "
                              "space, or take fewer frames with --unlabelled-every") from error  # fmt: skip
    for path in sorted(kept.glob("*.jpg")):
        yield path, f"{name}#{int(path.stem)}"


def _take_frames(video: Path, every_s: float, into: Path) -> None:
    taken = -1
    with VideoSource(video) as source:
        for frame in source:
            number = int(frame.timestamp_s / every_s)
            if number > taken:
                taken = number
                _, data = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                (into / f"{frame.index:08d}.jpg").write_bytes(data.tobytes())
