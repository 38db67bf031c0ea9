"""HEIC and AVIF pictures beyond what OpenCV reads. Boxes: ISO/IEC 14496-12, items: ISO/IEC 23008-12 (HEIF).

A phone's HEIC is a grid of tiles, each a separate HEVC picture. FFmpeg decodes the tiles, and this module puts them
together. Rotation comes from the item's properties, not from EXIF. What the numbers mean as colours is in the box
`colr`, or else in the coded picture (ITU-T H.273).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from rtseg.core.files import file_url
from rtseg.sources.hdr import to_sdr

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1")
_AVIF = (b"avif", b"avis")
_PICTURES = (b"hvc1", b"av01", b"grid", b"iovl", b"iden", b"jpeg")  # kinds of items
_UNKNOWN_FORM = (ValueError, KeyError, IndexError, StopIteration)
Box = tuple[bytes, bytes]  # kind, content
_IDENTITY, _UNKNOWN = 0, 2  # codes of H.273
_LIMITED, _FULL = 1, 2  # FFmpeg's codes of colour ranges


def is_heic(data: bytes) -> bool:
    """Whether a file is a HEIC picture, from its first bytes."""
    brands = _brands(data)
    sequence = brands[:1] == [b"hevc"] or brands[:1] == [b"msf1"]  # its first picture may be apart too
    return any(brand in _HEIC for brand in (brands if sequence else brands[:1])) and not is_avif(data)


def is_avif(data: bytes) -> bool:
    """Whether a file is an AVIF picture, from its first bytes."""
    return any(brand in _AVIF for brand in _brands(data))


def _brands(data: bytes) -> list[bytes]:
    """The brands of a file, the main one first; empty for another file format."""
    end = min(int.from_bytes(data[:4], "big"), 256) if data[4:8] == b"ftyp" else 0
    return [data[place : place + 4] for place in (8, *range(16, end, 4)) if place < end]


def decode_heic(path: Path, data: bytes) -> np.ndarray | None:
    """uint8 BGR (H, W, 3), upright; None if it is damaged or in a form that is not known."""
    try:
        item = _primary(data)
        tiles = item.tiles or [item.number]
        pictures = _decoded(path, tiles, item.colours)
        rows = [pictures[place : place + item.columns] for place in range(0, len(pictures), item.columns)]
        if item.tiles and len(rows) * item.columns != len(tiles):
            return None
        image = cv2.vconcat([cv2.hconcat(row) for row in rows])
    except (*_UNKNOWN_FORM, cv2.error):
        return None
    height, width = item.size_hw or image.shape[:2]
    return item.shown(image[:height, :width])


def decode_avif(path: Path, data: np.ndarray) -> np.ndarray | None:
    """uint8 BGR (H, W, 3), upright; None if it is damaged."""
    # scales what has more than 8 bits
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None:
        return None
    image = np.asarray(decoded)
    try:
        item = _primary(data.tobytes())
    except _UNKNOWN_FORM:
        return image
    colours = item.colours or _coded_colours(path)
    return item.shown(to_sdr(image, colours.transfer, colours.primaries))


def holds_several(data: bytes) -> bool:
    """Whether a HEIC or AVIF has more than one picture to show: a sequence or several independent items."""
    boxes = dict(_boxes(data))
    if b"moov" in boxes:
        return True
    try:
        meta = dict(_boxes(boxes[b"meta"][4:]))
        shown = {item for item, kind in _kinds(meta[b"iinf"], hidden=False).items() if kind in _PICTURES}
        for kind, item, others in _references(meta.get(b"iref", bytes(4))):
            shown -= {item} if kind in (b"thmb", b"auxl") else set(others) if kind == b"dimg" else set()
    except _UNKNOWN_FORM:
        return False
    return len(shown) > 1


def heif_transfer(path: Path, data: bytes) -> int:
    """The code of a HEIC's or AVIF's transfer characteristics."""
    try:
        colours = _primary(data).colours
    except _UNKNOWN_FORM:
        colours = None
    return (colours or _coded_colours(path)).transfer


@dataclass(frozen=True)
class _Colours:
    """Colour codes of ITU-T H.273, and whether the range is full: black is 0 and white the highest value."""

    primaries: int
    transfer: int
    matrix: int
    full: bool


@dataclass
class _Item:
    """The main picture of a file.

    Attributes:
        number: number of the item.
        properties: the item's properties; some say how to show it, to be applied in this order.
        tiles: the items that it consists of, row by row; empty if it is a coded picture itself.
        columns: columns of tiles.
        size_hw: size of the picture made of tiles; the tiles may extend beyond it.
    """

    number: int
    properties: list[Box]
    tiles: list[int] = field(default_factory=list)
    columns: int = 1
    size_hw: tuple[int, int] | None = None

    @property
    def colours(self) -> _Colours | None:
        """What the numbers mean as colours; None if only the coded picture says so."""
        for kind, content in self.properties:
            if kind == b"colr" and content[:4] == b"nclx":
                primaries, transfer, matrix = (int.from_bytes(content[place : place + 2], "big") for place in (4, 6, 8))
                return _Colours(primaries, transfer, matrix, full=bool(content[10] & 0x80))
        return None

    def shown(self, image: np.ndarray) -> np.ndarray:
        for kind, content in self.properties:
            if kind == b"irot":
                image = np.rot90(image, content[0] & 3)  # quarter turns, anticlockwise
            elif kind == b"imir":
                image = np.flip(image, content[0] & 1)  # swaps top and bottom, or left and right
            elif kind == b"clap":
                image = _cropped(image, content)
        return np.ascontiguousarray(image)


def _cropped(image: np.ndarray, aperture: bytes) -> np.ndarray:
    words = [int.from_bytes(aperture[place : place + 4], "big", signed=True) for place in range(0, 32, 4)]
    width, height, right, down = (over / below for over, below in zip(words[::2], words[1::2], strict=True))
    left = round((image.shape[1] - width) / 2 + right)
    top = round((image.shape[0] - height) / 2 + down)
    return image[max(0, top) : top + round(height), max(0, left) : left + round(width)]


def _decoded(path: Path, items: list[int], colours: _Colours | None) -> list[np.ndarray]:
    """uint8 BGR (H, W, 3) of each item, in SDR; raises KeyError if one is missing."""
    import av
    import av.error

    found: dict[int, np.ndarray] = {}
    try:
        with av.open(file_url(path)) as container:
            # a motion photo's track may have the number of an item, but comes later
            streams = {stream.id: stream for stream in reversed(container.streams.video) if stream.id in items}
            for stream in streams.values():
                stream.codec_context.thread_count = 1
            for packet in container.demux(list(streams.values())):
                for frame in streams[packet.stream.id].decode(packet):
                    found.setdefault(packet.stream.id, _to_bgr(frame, colours))
    except (av.error.FFmpegError, OSError):
        pass  # a missing item is noticed below
    return [found[item] for item in items]


def _to_bgr(frame: "VideoFrame", colours: _Colours | None) -> np.ndarray:
    if colours is not None:  # takes precedence over the coded picture
        frame.color_primaries, frame.color_trc = colours.primaries, colours.transfer
        frame.color_range = _FULL if colours.full else _LIMITED
        if colours.matrix not in (_IDENTITY, _UNKNOWN):
            frame.colorspace = colours.matrix
    return to_sdr(frame.to_ndarray(format="bgr24"), frame.color_trc, frame.color_primaries)


def _coded_colours(path: Path) -> _Colours:
    """The colour codes in the coded picture."""
    import av
    import av.error

    try:
        with av.open(file_url(path)) as container:
            frame = next(container.decode(video=0))
    except (av.error.FFmpegError, OSError, StopIteration, IndexError):
        return _Colours(_UNKNOWN, _UNKNOWN, _UNKNOWN, full=False)
    return _Colours(frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range == _FULL)


def _primary(data: bytes) -> _Item:
    """The main picture of a file; raises one of _UNKNOWN_FORM if it is not found."""
    meta = dict(_boxes(dict(_boxes(data))[b"meta"][4:]))
    wide = meta[b"pitm"][0] > 0
    number = int.from_bytes(meta[b"pitm"][4 : 8 if wide else 6], "big")
    item = _Item(number, _properties(meta[b"iprp"], number))
    if _kinds(meta[b"iinf"])[number] == b"grid":
        item.tiles = _referred(meta[b"iref"], number)
        if item.colours is None:  # only the tiles have it
            of_tile = _properties(meta[b"iprp"], item.tiles[0])
            item.properties += [piece for piece in of_tile if piece[0] == b"colr"]
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


def _kinds(iinf: bytes, hidden: bool = True) -> dict[int, bytes]:
    """Item -> its kind; with `hidden` False, without hidden items."""
    found = {}
    for _, entry in _boxes(iinf[8 if iinf[0] else 6 :]):
        size = 4 if entry[0] > 2 else 2
        if hidden or not entry[3] & 1:
            found[int.from_bytes(entry[4 : 4 + size], "big")] = entry[6 + size : 10 + size]
    return found


def _referred(iref: bytes, number: int) -> list[int]:
    """The items that an item consists of."""
    return next(others for kind, item, others in _references(iref) if (kind, item) == (b"dimg", number))


def _references(iref: bytes) -> Iterator[tuple[bytes, int, list[int]]]:
    """(kind, referring item, items that it refers to)."""
    size = 4 if iref[0] else 2
    for kind, content in _boxes(iref[4:]):
        ids = content[size + 2 :]
        others = [int.from_bytes(ids[place : place + size], "big") for place in range(0, len(ids), size)]
        yield kind, int.from_bytes(content[:size], "big"), others


def _properties(iprp: bytes, number: int) -> list[Box]:
    """The properties of an item, in order."""
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
