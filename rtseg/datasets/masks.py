"""Reads pictures and label pictures, with errors that say why a file cannot be used."""

from glob import escape
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from rtseg.core.errors import InputError
from rtseg.core.files import check_regular
from rtseg.sources.heif import is_avif, is_heic
from rtseg.sources.images import read_image, reason_of
from rtseg.sources.jpeg2000 import is_jpeg2000
from rtseg.sources.odd_pictures import AS_WRITTEN, mend_tiff, orientation_of, tiff_tags

ProblemKind = Literal["missing", "unreadable", "size", "unknown label"]
Colour = tuple[int, int, int]  # RGB

MOST_CLASSES = 254
_IGNORED = 255  # in the labels that a data set returns
_UNKNOWN = 254  # not a class, and not the ignore index 255
_FEW_BITS = (1, 2, 4)  # of grey PNGs and TIFFs
_HEAD = 512  # bytes that identify a file's format
_TOLD = 5  # unknown ids or colours that an error lists


class SampleError(InputError):
    """A labelled picture that cannot be used; `kind` says why."""

    def __init__(self, kind: ProblemKind, message: str) -> None:
        super().__init__(message)
        self.kind: ProblemKind = kind

    def __reduce__(self) -> tuple[type["SampleError"], tuple[ProblemKind, str]]:
        return SampleError, (self.kind, str(self))  # for pickling by a process that reads pictures


class Masks(Protocol):
    """How label pictures encode the classes."""

    def read(self, path: Path) -> np.ndarray:
        """A label picture -> uint8 (H, W): classes and the ignore index; raises SampleError."""

    def doubt(self, path: Path) -> str | None:
        """Why the labels of a readable label picture may be wrong; None if they seem right."""


class IdMasks:
    """Label pictures of one 8-bit channel; `meaning` maps each value to its class or the ignore index."""

    def __init__(self, meaning: dict[int, int]) -> None:
        self.meaning = meaning
        self._known = np.zeros(256, bool)
        self._known[list(meaning)] = True
        self._table = np.zeros(256, np.uint8)
        self._table[list(meaning)] = list(meaning.values())

    def read(self, path: Path) -> np.ndarray:
        ids = _read_mask(path)
        if ids.ndim != 2 or ids.dtype != np.uint8:
            found = "a colour or palette" if ids.ndim == 3 else f"a {8 * ids.dtype.itemsize}-bit"
            hint = '; if its colours stand for classes, set "masks": "colours" in classes.json' if ids.ndim == 3 else ""
            raise SampleError("unreadable", f"{path} is {found} picture, not one of 8-bit grey class ids{hint}")
        occurs = np.bincount(ids.ravel(), minlength=256) > 0
        unknown = np.flatnonzero(occurs & ~self._known)
        if unknown.size:
            raise SampleError(
                "unknown label",
                f"{path} holds id {_some(unknown.tolist())}; allowed: {_ranges(self.meaning)}{_stretch_hint(path)}",
            )
        labels: np.ndarray = cv2.LUT(ids, self._table)
        return labels

    def doubt(self, path: Path) -> str | None:
        """Doubts fewer than 8 bits: programs show a one-bit 1 as 255, which usually means unlabelled."""
        bits = _bits(path)
        if bits not in _FEW_BITS or self.meaning.get(255, _IGNORED) != _IGNORED:
            return None
        if bits > 1:
            return f"{path} may not hold the ids that were meant{_stretch_hint(path)}"
        if not (self.read(path) == _IGNORED).any():
            return None
        return (
            f"{path} has one bit a pixel: its ones are read as 255, not labelled; write 8-bit ids if they are a class"
        )


class ColourMasks:
    """Label pictures in colours; `meaning` maps each RGB colour to its class or the ignore index."""

    def __init__(self, meaning: dict[Colour, int]) -> None:
        self.meaning = meaning
        codes = [(red << 16) | (green << 8) | blue for red, green, blue in meaning]
        self._table = np.full(1 << 24, _UNKNOWN, np.uint8)  # 16 MB, five times as fast as searching
        self._table[codes] = list(meaning.values())

    def read(self, path: Path) -> np.ndarray:
        bgr = _read_mask(path)
        if bgr.ndim != 3 or bgr.dtype != np.uint8:
            raise SampleError("unreadable", f"{path} is not a picture in colours with 8 bits a channel")
        blue, green, red = (bgr[..., channel].astype(np.int32) for channel in range(3))
        codes = (red << 16) | (green << 8) | blue
        labels: np.ndarray = self._table[codes]
        unknown = labels == _UNKNOWN
        if unknown.any():
            strange, counts = np.unique(codes[unknown], return_counts=True)
            colours = [(code >> 16, code >> 8 & 255, code & 255) for code in strange[np.argsort(-counts)].tolist()]
            raise SampleError(
                "unknown label",
                f"{path} holds colour {_some(colours)} (red, green, blue) in {int(unknown.sum())} pixels, "
                f"which none of the {len(self.meaning)} known labels has",
            )
        return labels

    def doubt(self, path: Path) -> str | None:
        return None


def read_picture(path: Path) -> np.ndarray:
    """uint8 BGR (H, W, 3); raises SampleError if the file is missing or not a picture."""
    if not path.is_file():
        raise SampleError("missing", f"{path} is missing")
    try:
        return read_image(path)
    except InputError as error:
        raise SampleError("unreadable", str(error)) from error


def orientation(path: Path) -> int:
    """A picture's EXIF orientation, 1 (unrotated) to 8; 1 if it cannot be read or there is none.

    That of HEIC and AVIF files is ignored: programs show them upright, by other properties of the file.
    """
    try:
        data = np.fromfile(check_regular(path), np.uint8)
    except OSError:
        return 1
    head = data[:_HEAD].tobytes()
    return 1 if is_heic(head) or is_avif(head) else orientation_of(data)


def _read_mask(path: Path) -> np.ndarray:
    """The stored pixels: uint8 or uint16 (H, W) or BGR (H, W, 3)."""
    if not path.is_file():
        raise SampleError("missing", f"{path} is missing: every picture needs its label picture{_beside(path)}")
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path on every system
        if kind := _lossy_kind(data):
            raise SampleError(
                "unreadable",
                f"{path} is {kind}, whose compression may change class ids and colours where classes meet: write label "
                "pictures as PNG, from the labels themselves",
            )
        mask = cv2.imdecode(data, AS_WRITTEN) if data.size else None  # rotated by its EXIF data like the picture
    except OSError as error:
        raise SampleError("unreadable", f"{path} cannot be read: {error.strerror or error}") from error
    except cv2.error as error:
        raise SampleError("unreadable", f"{path} cannot be decoded: {reason_of(error)}") from error
    if mask is None:
        raise SampleError("unreadable", f"{path} cannot be read as a picture: it is damaged or cut short")
    return mend_tiff(mask, data)


def _beside(path: Path) -> str:
    """A hint at another file of the same name beside a missing label picture."""
    named = path.parent.glob(f"{escape(path.stem)}.*") if path.parent.is_dir() else ()
    others = sorted(other for other in named if other.stem == path.stem and other != path)
    return f"; {others[0].name}, which lies there, is not read: write it as PNG" if others else ""


def _bits(path: Path) -> int:
    """Bits per pixel of a grey PNG, TIFF or PBM; 8 for all others."""
    data = np.fromfile(path, np.uint8)
    head = data[:_HEAD].tobytes()
    if head.startswith(b"\x89PNG"):
        return head[24] if len(head) > 25 and head[25] == 0 else 8
    if head[:2] in (b"P1", b"P4"):
        return 1
    tags = tiff_tags(data)
    return tags.get("bits", 1) if tags and tags.get("photometric") in (0, 1) else 8


def _stretch_hint(path: Path) -> str:
    """A hint that 1, 2 and 4 bit grey values of PNG and TIFF are stretched to 0 to 255 by programs that read them."""
    if (bits := _bits(path)) not in _FEW_BITS:
        return ""
    step = 255 // (2**bits - 1)
    values = "0 and 255" if bits == 1 else f"0, {step}, {2 * step}, … 255"
    return f"; it has {bits} bit{'s' * (bits > 1)} a pixel, which are read as {values}: write 8-bit ids"


def _lossy_kind(data: np.ndarray) -> str | None:
    """The name of a picture's format if it is lossy, or may be."""
    head = data[:_HEAD].tobytes()
    if head.startswith(b"\xff\xd8\xff"):
        return "a JPEG"
    if is_heic(head) or is_avif(head):
        return "an AVIF" if is_avif(head) else "a HEIC"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return None if b"VP8L" in head else "a lossy WebP"
    return "a JPEG 2000" if is_jpeg2000(head) else None


def _some(values: list[int] | list[Colour]) -> str:
    told = ", ".join(str(value) for value in values[:_TOLD])
    return told if len(values) <= _TOLD else f"{told} and {len(values) - _TOLD} more"


def _ranges(ids: dict[int, int]) -> str:
    """{0, 1, 2, 255} -> '0..2, 255'."""
    runs: list[list[int]] = []
    for value in sorted(ids):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{first}..{last}" if last > first else f"{first}" for first, last in runs)
