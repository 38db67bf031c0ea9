"""Pictures that OpenCV cannot read, silently misreads, or of which it reads only the first."""

import re
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from rtseg.core.files import file_url
from rtseg.sources.heif import holds_several, is_avif, is_heic

_PNM_HEAD = re.compile(rb"P([1-6])" + 2 * rb"(?:\s|#[^\n]*\n)+(\d+)")
_PNM_MOST = re.compile(rb"(?:\s|#[^\n]*\n)+(\d+)")
_PNG = b"\x89PNG"
AS_WRITTEN = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH  # with rotation applied and without alpha
_TAGS = {258: "bits", 259: "compression", 262: "photometric", 274: "orientation", 284: "planar", 338: "extra"}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of alpha: colours multiplied by it, or not
_NOT_BUILT_IN = {34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"}
_QOI_END = bytes(7) + b"\1"
_LAB = (8, 9, 10)  # codes of CIE L*a*b*, ICC L*a*b*, ITU L*a*b*


def decode_pnm(data: bytes) -> np.ndarray | None:
    """Decodes PBM, PGM or PPM, plain or raw -> uint8 or uint16 (H, W) or BGR (H, W, 3), white at the type's maximum.

    OpenCV uses the values as they are, although the file states their maximum. None if it is not such a file.
    """
    head = _PNM_HEAD.match(data)
    if head is None:
        return None
    kind, width, height = (int(part) for part in head.groups())
    most, end, channels = 1, head.end(), 3 if kind in (3, 6) else 1
    if kind not in (1, 4):
        told = _PNM_MOST.match(data, end)
        if told is None:
            return None
        most, end = int(told[1]), told.end()
    if not 0 < most < 1 << 16:
        return None
    shape = (height, width, channels)
    values = _plain(data[end:], kind, shape) if kind < 4 else _raw(data[end + 1 :], kind, most, shape)
    if values is None:
        return None
    top = 255 if most < 256 else 65535
    if kind in (1, 4):
        values = 1 - values  # a set bit is black
    scaled = np.round(np.minimum(values, most) * (top / most)).astype(np.uint8 if top == 255 else np.uint16)
    return scaled[..., 0] if channels == 1 else np.ascontiguousarray(scaled[..., ::-1])


def _plain(text: bytes, kind: int, shape: tuple[int, int, int]) -> np.ndarray | None:
    text = re.sub(rb"#[^\n]*", b"", text)
    words = re.findall(rb"[01]", text) if kind == 1 else text.split()
    count = int(np.prod(shape))
    return np.array([int(word) for word in words[:count]]).reshape(shape) if len(words) >= count else None


def _raw(data: bytes, kind: int, most: int, shape: tuple[int, int, int]) -> np.ndarray | None:
    height, width, channels = shape
    if kind == 4:
        row = (width + 7) // 8
        if len(data) < row * height:
            return None
        bits = np.unpackbits(np.frombuffer(data, np.uint8, row * height).reshape(height, row), axis=1)
        return bits[:, :width, None].astype(np.int64)
    kind_of_value = np.dtype(">u2" if most > 255 else np.uint8)
    count = height * width * channels
    if len(data) < count * kind_of_value.itemsize:
        return None
    return np.frombuffer(data, kind_of_value, count).reshape(shape).astype(np.int64)


def by_ffmpeg(path: Path) -> np.ndarray | None:
    """Reads a picture with FFmpeg: uint8 BGR (H, W, 3); None if FFmpeg cannot read it."""
    import av
    import av.error

    try:
        with av.open(file_url(path)) as container:
            frame = next(container.decode(video=0))
    except (av.error.FFmpegError, OSError, StopIteration, IndexError):
        return None
    if (data := path.read_bytes()).startswith(b"qoif") and _QOI_END not in data:
        return None  # FFmpeg does not notice that the end is missing
    # two bytes per pixel in a TGA may be grey and alpha, which FFmpeg reads as colours
    return None if frame.format.name.startswith("rgb555") else frame.to_ndarray(format="bgr24")


def mend_tiff(image: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Corrects OpenCV's result for a TIFF: in 16 bits white may be 0, and alpha is not applied."""
    place = _places(data).get("extra")
    if place is not None and image.dtype == np.uint8 and tiff_tags(data)["extra"] == _UNASSOCIATED:
        data = data.copy()
        data[place : place + 2] = np.frombuffer(_ASSOCIATED.to_bytes(2, _tiff_order(data) or "little"), np.uint8)
        return np.asarray(cv2.imdecode(data, AS_WRITTEN))
    white_is_0 = image.dtype == np.uint16 and tiff_tags(data).get("photometric") == 0
    return np.asarray(cv2.bitwise_not(image)) if white_is_0 else image


def tiff_fault(image: np.ndarray | None, data: np.ndarray) -> str | None:
    """Why OpenCV's result for a TIFF, if any, is wrong; None: it is right, can be corrected, or the file is damaged."""
    tags = tiff_tags(data)
    if image is None:
        compression = _NOT_BUILT_IN.get(tags.get("compression", 0))
        return compression and f"a TIFF that is compressed with {compression}"
    if image.dtype == np.uint16 and image.ndim == 3 and tags.get("planar") == 2:
        return "a TIFF of 16 bits whose planes lie one after the other"
    return "a TIFF in Lab colours" if tags.get("photometric") in _LAB else None


def _tiff_order(data: np.ndarray) -> Literal["little", "big"] | None:
    head = data[:4].tobytes()
    return {b"II*\0": "little", b"MM\0*": "big", b"II+\0": "little", b"MM\0+": "big"}.get(head)  # type: ignore[return-value]


def tiff_tags(data: np.ndarray) -> dict[str, int]:
    """First values of a few tags in a TIFF's (or BigTIFF's) first page or in EXIF data; empty for other files."""
    order = _tiff_order(data) or "little"
    return {name: int.from_bytes(data[at : at + 2].tobytes(), order) for name, at in _places(data).items()}


def _places(data: np.ndarray) -> dict[str, int]:
    """Where these values are in the file."""
    order = _tiff_order(data)
    if order is None:
        return {}
    first, row, count = _first_page(data, order)
    value = row - (8 if row == 20 else 4)
    found = {}
    for start in range(first, min(first + row * count, len(data)), row):
        if name := _TAGS.get(int.from_bytes(data[start : start + 2].tobytes(), order)):
            found[name] = start + value
    return found


def _first_page(data: np.ndarray, order: Literal["little", "big"]) -> tuple[int, int, int]:
    """Where the entries of a TIFF's (or BigTIFF's) first page are: (first one, bytes of each, number)."""
    size, row, wide = (8, 20, 8) if b"+" in data[:4].tobytes() else (4, 12, 2)
    place = int.from_bytes(data[size : 2 * size].tobytes(), order)
    return place + wide, row, int.from_bytes(data[place : place + wide].tobytes(), order)


def orientation_of(data: np.ndarray) -> int:
    """The EXIF orientation of a JPEG, PNG, WebP or TIFF, 1 (as stored) to 8."""
    whole = data.tobytes()
    for mark in (b"Exif\0\0", b"eXIf", b"EXIF"):
        place = whole.find(mark)
        for start in (place + len(mark), place + len(mark) + 4):  # in WebP the length comes in between
            if place >= 0 and (tags := tiff_tags(data[start:])):
                return _known_orientation(tags)
    return _known_orientation(tiff_tags(data))


def _known_orientation(tags: dict[str, int]) -> int:
    told = tags.get("orientation", 1)
    return told if 1 <= told <= 8 else 1


def video_behind(data: np.ndarray) -> bool:
    """Whether a JPEG or HEIC is a motion photo: a picture followed by a video."""
    whole = data.tobytes()
    if whole[:2] == b"\xff\xd8":
        return not whole.endswith(b"\xff\xd9") and b"ftyp" in whole
    return whole[4:8] == b"ftyp" and b"ftyp" in whole[8:]


def holds_more(data: np.ndarray) -> bool:
    """Whether a file is animated (APNG, WebP, AVIF), has several pages (TIFF) or several items (HEIC)."""
    head = data[:4096].tobytes()
    if (order := _tiff_order(data)) is not None:
        first, row, count = _first_page(data, order)
        after = first + row * count
        return any(data[after : after + (8 if row == 20 else 4)].tolist())
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20] & 2)
    if is_heic(head) or is_avif(head):
        return holds_several(data.tobytes())
    return head[:4] == _PNG and b"acTL" in head.partition(b"IDAT")[0]


def png_colours(data: bytes | memoryview) -> tuple[int, int]:
    """(transfer characteristics, primaries) of a PNG from its chunk `cICP`, codes of ITU-T H.273; 2: unknown."""
    place = 8
    while data[:4] == _PNG and place + 12 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"cICP":
            return data[place + 9], data[place + 8]
        if kind == b"IDAT":
            break
        place += 12 + length
    return 2, 2
