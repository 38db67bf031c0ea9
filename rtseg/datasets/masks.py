"""Reads pictures and label pictures, and says what is wrong with a file that cannot be used."""

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
_IGNORED = 255  # in the labels that a data set gives
_UNKNOWN = 254  # no class has it, and 255 is an ignore index
_FEW_BITS = (1, 2, 4)  # of grey PNGs and TIFFs
_HEAD = 512  # bytes that tell what a file is
_TOLD = 5  # unknown ids or colours that an error names


class SampleError(InputError):
    """A labelled picture that cannot be used; `kind` says in what way."""

    def __init__(self, kind: ProblemKind, message: str) -> None:
        super().__init__(message)
        self.kind: ProblemKind = kind

    def __reduce__(self) -> tuple[type["SampleError"], tuple[ProblemKind, str]]:
        return SampleError, (self.kind, str(self))  # from a process that reads pictures


class Masks(Protocol):
    """How label pictures say which pixel is what."""

    def read(self, path: Path) -> np.ndarray:
        """A label picture -> uint8 (H, W): classes and the ignore index; raises SampleError."""

    def doubt(self, path: Path) -> str | None:
        """Why a label picture that can be read may not mean what is read; None: it does."""


class IdMasks:
    """Label pictures of one 8-bit channel; `meaning` gives the class, or the ignore index, of each value."""

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
        """Fewer than 8 bits: every program shows a 1 of one bit as 255, which mostly means 'not labelled'."""
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
    """Label pictures in colours; `meaning` gives the class, or the ignore index, of each RGB colour."""

    def __init__(self, meaning: dict[Colour, int]) -> None:
        self.meaning = meaning
        codes = [(red << 16) | (green << 8) | blue for red, green, blue in meaning]
        self._table = np.full(1 << 24, _UNKNOWN, np.uint8)  # 16 MB, five times as fast as a search
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
    """uint8 BGR (H, W, 3); raises SampleError where it is missing or no picture."""
    if not path.is_file():
        raise SampleError("missing", f"{path} is missing")
    try:
        return read_image(path)
    except InputError as error:
        raise SampleError("unreadable", str(error)) from error


def orientation(path: Path) -> int:
    """How the EXIF data of a picture turn it: 1 (not at all) to 8; 1 where it cannot be read or has none.

    Those of a HEIC or AVIF turn nothing: every program shows these by properties of their own, upright.
    """
    try:
        data = np.fromfile(check_regular(path), np.uint8)
    except OSError:
        return 1
    head = data[:_HEAD].tobytes()
    return 1 if is_heic(head) or is_avif(head) else orientation_of(data)


def _read_mask(path: Path) -> np.ndarray:
    """The pixels as they are written: uint8 or uint16 (H, W) or BGR (H, W, 3)."""
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
        mask = cv2.imdecode(data, AS_WRITTEN) if data.size else None  # turned by its EXIF data as the picture is
    except OSError as error:
        raise SampleError("unreadable", f"{path} cannot be read: {error.strerror or error}") from error
    except cv2.error as error:
        raise SampleError("unreadable", f"{path} cannot be decoded: {reason_of(error)}") from error
    if mask is None:
        raise SampleError("unreadable", f"{path} cannot be read as a picture: it is damaged or cut short")
    return mend_tiff(mask, data)


def _beside(path: Path) -> str:
    """What lies there instead of a label picture, under the same name."""
    named = path.parent.glob(f"{escape(path.stem)}.*") if path.parent.is_dir() else ()
    others = sorted(other for other in named if other.stem == path.stem and other != path)
    return f"; {others[0].name}, which lies there, is not read: write it as PNG" if others else ""


def _bits(path: Path) -> int:
    """Bits of a pixel of a grey PNG, TIFF or PBM; 8 for all others."""
    data = np.fromfile(path, np.uint8)
    head = data[:_HEAD].tobytes()
    if head.startswith(b"\x89PNG"):
        return head[24] if len(head) > 25 and head[25] == 0 else 8
    if head[:2] in (b"P1", b"P4"):
        return 1
    tags = tiff_tags(data)
    return tags.get("bits", 1) if tags and tags.get("photometric") in (0, 1) else 8


def _stretch_hint(path: Path) -> str:
    """PNG and TIFF stretch grey of 1, 2 and 4 bits over 0 to 255, and so does what reads them."""
    if (bits := _bits(path)) not in _FEW_BITS:
        return ""
    step = 255 // (2**bits - 1)
    values = "0 and 255" if bits == 1 else f"0, {step}, {2 * step}, … 255"
    return f"; it has {bits} bit{'s' * (bits > 1)} a pixel, which are read as {values}: write 8-bit ids"


def _lossy_kind(data: np.ndarray) -> str | None:
    """What a picture is where its form loses something, or does not say whether it does."""
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
