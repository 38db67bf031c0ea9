"""Pictures from files: a single image, or a folder of images in order of their names."""

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from rtseg.core.errors import InputError
from rtseg.core.frame import Frame
from rtseg.core.paths import natural_key
from rtseg.sources.base import Source
from rtseg.sources.hdr import hdr_note, to_sdr
from rtseg.sources.heif import decode_avif, decode_heic, heif_transfer, is_avif, is_heic
from rtseg.sources.jpeg2000 import decode_jpeg2000, is_jpeg2000
from rtseg.sources.kinds import FFMPEG_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, skipped_note
from rtseg.sources.odd_pictures import (
    AS_WRITTEN,
    by_ffmpeg,
    decode_pnm,
    holds_more,
    mend_tiff,
    png_colours,
    tiff_fault,
    video_behind,
)

log = logging.getLogger(__name__)

_HEAD = 512  # first bytes, which show what a file contains
_PNG_HEAD = 1 << 16  # most bytes before the pixels of a PNG


def read_image(path: Path) -> np.ndarray:
    """Reads any picture as uint8 BGR (H, W, 3): grey is repeated, 16 bits are scaled to 8, alpha is dropped.

    A rotation in the EXIF data is applied, and HDR (PQ, HLG) is converted to SDR.

    Raises:
        InputError: the file cannot be read, is not a picture, or has floating-point values.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is a pipe, socket or device, not a file: take it out of the folder")
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path on every system
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        image = _decoded(path, data) if data.size else None
    except cv2.error as error:
        raise InputError(f"{path} cannot be decoded: {reason_of(error)}") from error
    if image is None:
        raise InputError(f"{path} cannot be read as a picture: it is damaged, cut short or of another type")
    if holds_more(data):
        _note_more(path)
    return to_sdr(to_bgr8(image, str(path)), *png_colours(data.data))


def _decoded(path: Path, data: np.ndarray) -> np.ndarray | None:
    head = data[:_HEAD].tobytes()
    if head[:1] == b"P" and (image := decode_pnm(data.tobytes())) is not None:
        return image
    if is_jpeg2000(head):
        return decode_jpeg2000(path, data.tobytes())
    if is_heic(head):
        return decode_heic(path, data.tobytes())
    if is_avif(head):
        return decode_avif(path, data)
    if path.suffix.lower() in FFMPEG_SUFFIXES:
        return by_ffmpeg(path)
    image = cv2.imdecode(data, AS_WRITTEN)
    if image is None and head[4:8] == b"ftyp":
        raise InputError(f"{path} is a video, not a picture: give it a video's suffix, such as .mp4")
    if fault := tiff_fault(image, data):
        raise InputError(f"{path} is {fault}: convert it to PNG")
    return None if image is None else mend_tiff(image, data)


def reason_of(error: cv2.error) -> str:
    """Why OpenCV cannot decode a picture."""
    return "it has more than 2**30 pixels: make it smaller" if "PIXELS" in error.err else error.err


@lru_cache(1024)  # once per file, however often it is read
def _note_more(path: Path) -> None:
    log.warning("%s holds several pictures: only the first is read", path)


def to_bgr8(image: np.ndarray, name: str) -> np.ndarray:
    """uint8 or uint16 (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA -> uint8 BGR (H, W, 3), C-contiguous."""
    if image.dtype == np.uint16:
        # 65535 / 255 = 257 exactly, so black stays 0 and white becomes 255
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.dtype != np.uint8:
        raise InputError(f"{name} holds {image.dtype} values; allowed: 8 or 16 bits a channel. Convert it to PNG")
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return np.ascontiguousarray(image)


def list_images(folder: Path) -> list[Path]:
    """The pictures in a folder, with numbers in their names in order; raises InputError if there are none.

    Hidden files (`.a.jpg`, or macOS's `._a.jpg`, which is not a picture) are skipped.
    """
    try:
        # includes broken links: reading them raises the error
        found = sorted((p for p in folder.iterdir() if not p.is_dir()), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise InputError(f"cannot read folder {folder}: {error.strerror or error}") from error
    paths = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
    if not paths:
        allowed = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise InputError(f"folder {folder} holds no images; allowed: {allowed}")
    return paths


def read_images(source: Source, paths: Sequence[Path], indices: range, step_s: Fraction) -> Iterator[Frame]:
    """The pictures with these indices, `step_s` seconds apart; damaged ones are reported, counted and skipped."""
    for index in indices:
        try:
            image = read_image(paths[index])
        except InputError as error:
            if not os.path.isdir(folder := paths[index].parent):
                raise InputError(f"folder {folder} is gone: check the disk or the network drive") from error
            log.warning("%s", error)
            source.corrupt += 1
            continue
        if (note := _hdr_note(paths[index])) and note not in source.notes:
            source.notes.append(note)
        yield Frame(image, index, float(index * step_s), perf_counter())


def _hdr_note(path: Path) -> str | None:
    """What a user should know about a picture that was just read."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD)
            rest = file.read() if is_heic(head) or is_avif(head) else None
    except OSError:
        return None  # it was readable a moment ago; if the folder is gone, the next picture raises the error
    return hdr_note(png_colours(head)[0] if rest is None else heif_transfer(path, head + rest))


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


class ImageSource(Source):
    """One picture: one frame."""

    kind = "image"

    def __init__(self, path: Path, fps: float = 1.0) -> None:
        super().__init__(str(path))
        self._path = path
        self.fps = fps
        self.frame_count = 1
        self._start()
        if video_behind(np.fromfile(path, np.uint8)):
            self.notes.append("it is a motion photo: its picture is read, the video after it is not")

    def _frames(self) -> Generator[Frame, None, None]:
        image = read_image(self._path)
        if note := _hdr_note(self._path):
            self.notes.append(note)
        yield Frame(image, 0, 0.0, perf_counter())


class ImagesSource(Source):
    """A folder of pictures in order of their names, each with its own size, `fps` a second; skips damaged ones."""

    kind = "images"

    def __init__(self, folder: Path, fps: float = 1.0) -> None:
        super().__init__(str(folder))
        self._paths = list_images(folder)
        known = {path.name for path in self._paths}
        others = [path.name for path in folder.iterdir() if path.is_file() and path.name not in known]
        if others := [name for name in sorted(others) if not name.startswith(".") and not _is_video(name)]:
            self.notes.append(skipped_note(others))
        self._rate = self.fps = fps
        self.frame_count = len(self._paths)
        self._start()

    def _frames(self) -> Generator[Frame, None, None]:
        yield from read_images(self, self._paths, range(len(self._paths)), 1 / Fraction(self._rate))
