"""Pictures that OpenCV does not read, reads without a word as something else, or reads the first of."""

import re
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from rtseg.core.files import file_url

_PNM_HEAD = re.compile(rb"P([1-6])" + 2 * rb"(?:\s|#[^\n]*\n)+(\d+)")
_PNM_MOST = re.compile(rb"(?:\s|#[^\n]*\n)+(\d+)")
_TAGS = {258: "bits", 262: "photometric", 284: "planar"}


def decode_pnm(data: bytes) -> np.ndarray | None:
    """PBM, PGM or PPM, plain or raw -> uint8 or uint16 (H, W) or BGR (H, W, 3), white at the top of the type.

    OpenCV takes the values as they are, though a file says up to where they go. None where the file is no such one.
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
        values = 1 - values  # a bit is ink
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
    """uint8 BGR (H, W, 3) of a picture; None where FFmpeg cannot read it."""
    import av
    import av.error

    try:
        with av.open(file_url(path)) as container:
            frame = next(container.decode(video=0))
    except (av.error.FFmpegError, OSError, StopIteration, IndexError):
        return None
    # two bytes a pixel in a TGA may as well be grey and alpha, which FFmpeg takes for colours
    return None if frame.format.name.startswith("rgb555") else frame.to_ndarray(format="bgr24")


def mend_tiff(image: np.ndarray, data: np.ndarray) -> np.ndarray | None:
    """What OpenCV makes of a deep TIFF, put right where white is 0; None where its planes lie one after the other."""
    tags = _tiff_tags(data)
    if image.dtype != np.uint16 or not tags:
        return image
    if tags.get("planar") == 2 and image.ndim == 3:
        return None
    return np.asarray(cv2.bitwise_not(image)) if tags.get("photometric") == 0 else image


def _tiff_order(data: np.ndarray) -> Literal["little", "big"] | None:
    return {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4].tobytes())  # type: ignore[return-value]


def _tiff_tags(data: np.ndarray) -> dict[str, int]:
    """The first values of a few tags of a TIFF's first page; empty for other files."""
    order = _tiff_order(data)
    if order is None:
        return {}
    place = int.from_bytes(data[4:8].tobytes(), order)
    found = {}
    for entry in range(int.from_bytes(data[place : place + 2].tobytes(), order)):
        row = data[place + 2 + 12 * entry :][:12].tobytes()
        if name := _TAGS.get(int.from_bytes(row[:2], order)):
            found[name] = int.from_bytes(row[8:10], order)
    return found


def holds_more(data: np.ndarray) -> bool:
    """Whether a file is animated (APNG, WebP, AVIF) or has several pages (TIFF), by its head."""
    head = data[:4096].tobytes()
    if (order := _tiff_order(data)) is not None:
        place = int.from_bytes(head[4:8], order)
        after = place + 2 + 12 * int.from_bytes(data[place : place + 2].tobytes(), order)
        return any(data[after : after + 4].tolist())
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20] & 2)
    return head[4:12] == b"ftypavis" or (head[:4] == b"\x89PNG" and b"acTL" in head.partition(b"IDAT")[0])
