"""HEIC and AVIF pictures: what OpenCV leaves out of them. Boxes: ISO/IEC 14496-12, items: ISO/IEC 23008-12 (HEIF).

A HEIC of a phone is a grid of tiles, each an HEVC picture of its own. FFmpeg decodes the tiles, this lays them out. How
the picture is turned is said by the item's properties; the EXIF data are not asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rtseg.core.files import file_url

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1")
_AVIF = (b"avif", b"avis")
Box = tuple[bytes, bytes]  # kind, content


def is_heic(data: bytes) -> bool:
    """Whether a file is a HEIC picture, by its head."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC and not is_avif(data)


def is_avif(data: bytes) -> bool:
    """Whether a file is an AVIF picture, by its head."""
    brands = data[8 : int.from_bytes(data[:4], "big")][:256]
    return data[4:8] == b"ftyp" and any(brand in brands for brand in _AVIF)


def decode_heic(path: Path, data: bytes) -> np.ndarray | None:
    """uint8 BGR (H, W, 3), upright; None where it is damaged or made in a way that is not known."""
    try:
        item = _primary(data)
        tiles = item.tiles or [item.number]
        pictures = _decoded(path, tiles)
        rows = [pictures[place : place + item.columns] for place in range(0, len(pictures), item.columns)]
        if item.tiles and len(rows) * item.columns != len(tiles):
            return None
        image = cv2.vconcat([cv2.hconcat(row) for row in rows])
    except (ValueError, KeyError, IndexError, cv2.error):
        return None
    height, width = item.size_hw or image.shape[:2]
    return item.shown(image[:height, :width])


def decode_avif(data: np.ndarray, flags: int) -> np.ndarray | None:
    """What OpenCV makes of an AVIF with these flags, upright; None where it is damaged."""
    image = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        return None
    try:
        return _primary(data.tobytes()).shown(np.asarray(image))
    except (ValueError, KeyError, IndexError):
        return np.asarray(image)


@dataclass
class _Item:
    """The picture of a file.

    Attributes:
        number: of the item.
        transforms: how it is to be shown, in this order.
        tiles: items that it consists of, row by row; none where it is one itself.
        columns: of the tiles.
        size_hw: of what the tiles make, which may stand over.
    """

    number: int
    transforms: list[Box]
    tiles: list[int] = field(default_factory=list)
    columns: int = 1
    size_hw: tuple[int, int] | None = None

    def shown(self, image: np.ndarray) -> np.ndarray:
        for kind, content in self.transforms:
            if kind == b"irot":
                image = np.rot90(image, content[0] & 3)  # quarters, anticlockwise
            elif kind == b"imir":
                image = np.flip(image, content[0] & 1)  # top and bottom change places, or left and right
            elif kind == b"clap":
                image = _cropped(image, content)
        return np.ascontiguousarray(image)


def _cropped(image: np.ndarray, aperture: bytes) -> np.ndarray:
    words = [int.from_bytes(aperture[place : place + 4], "big", signed=True) for place in range(0, 32, 4)]
    width, height, right, down = (over / below for over, below in zip(words[::2], words[1::2], strict=True))
    left = round((image.shape[1] - width) / 2 + right)
    top = round((image.shape[0] - height) / 2 + down)
    return image[max(0, top) : top + round(height), max(0, left) : left + round(width)]


def _decoded(path: Path, items: list[int]) -> list[np.ndarray]:
    """uint8 BGR (H, W, 3) of each item; raises KeyError where one is missing."""
    import av
    import av.error

    found: dict[int, np.ndarray] = {}
    try:
        with av.open(file_url(path)) as container:
            # the track of a motion photo may have an item's number, but comes later
            streams = {stream.id: stream for stream in reversed(container.streams.video) if stream.id in items}
            for stream in streams.values():
                stream.codec_context.thread_count = 1
            for packet in container.demux(list(streams.values())):
                for frame in streams[packet.stream.id].decode(packet):
                    found.setdefault(packet.stream.id, frame.to_ndarray(format="bgr24"))
    except (av.error.FFmpegError, OSError):
        pass  # what is missing is noticed
    return [found[item] for item in items]


def _primary(data: bytes) -> _Item:
    """The picture that a file is about; raises KeyError, IndexError or ValueError where it is not found."""
    meta = dict(_boxes(dict(_boxes(data))[b"meta"][4:]))
    wide = meta[b"pitm"][0] > 0
    number = int.from_bytes(meta[b"pitm"][4 : 8 if wide else 6], "big")
    item = _Item(number, _properties(meta[b"iprp"], number))
    if _kinds(meta[b"iinf"])[number] == b"grid":
        item.tiles = _referred(meta[b"iref"], number)
        grid = _content(data, meta, number)
        size = 4 if grid[1] & 1 else 2
        item.columns = grid[3] + 1
        width, height = (int.from_bytes(grid[4 + place * size :][:size], "big") for place in range(2))
        item.size_hw = height, width
    return item


def _boxes(data: bytes) -> Iterator[Box]:
    place = 0
    while place + 8 <= len(data):
        length, head = int.from_bytes(data[place : place + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        length = length or len(data) - place
        if length < head:
            return
        yield data[place + 4 : place + 8], data[place + head : place + length]
        place += length


def _kinds(iinf: bytes) -> dict[int, bytes]:
    """Item -> what it is."""
    found = {}
    for _, entry in _boxes(iinf[8 if iinf[0] else 6 :]):
        size = 4 if entry[0] > 2 else 2
        found[int.from_bytes(entry[4 : 4 + size], "big")] = entry[6 + size : 10 + size]
    return found


def _referred(iref: bytes, number: int) -> list[int]:
    """The items that one is made of."""
    size = 4 if iref[0] else 2
    for kind, content in _boxes(iref[4:]):
        if kind == b"dimg" and int.from_bytes(content[:size], "big") == number:
            ids = content[size + 2 :]
            return [int.from_bytes(ids[place : place + size], "big") for place in range(0, len(ids), size)]
    raise KeyError(number)


def _properties(iprp: bytes, number: int) -> list[Box]:
    """The properties of an item, in their order."""
    parts = dict(_boxes(iprp))
    every, table = list(_boxes(parts[b"ipco"])), parts[b"ipma"]
    size, wide, place = 4 if table[0] else 2, table[3] & 1, 8
    for _ in range(int.from_bytes(table[4:8], "big")):
        item, count = int.from_bytes(table[place : place + size], "big"), table[place + size]
        place += size + 1
        step = 2 if wide else 1
        own = [int.from_bytes(table[at : at + step], "big") for at in range(place, place + count * step, step)]
        place += count * step
        if item == number:
            return [every[(entry & (0x7FFF if wide else 0x7F)) - 1] for entry in own]
    return []


def _content(data: bytes, meta: dict[bytes, bytes], number: int) -> bytes:
    """The bytes of a small item."""
    iloc = meta[b"iloc"]
    version, place = iloc[0], 6

    def take(size: int) -> int:
        nonlocal place
        place += size
        return int.from_bytes(iloc[place - size : place], "big")

    offset_size, length_size, base_size, index_size = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15
    for _ in range(take(4 if version > 1 else 2)):
        item = take(4 if version > 1 else 2)
        in_idat = bool(version and take(2) & 15)
        take(2)
        base, content = take(base_size), b""
        for _ in range(take(2)):
            if version and index_size:
                take(index_size)
            start = base + take(offset_size)
            content += (meta[b"idat"] if in_idat else data)[start : start + take(length_size)]
        if item == number:
            return content
    raise KeyError(number)
