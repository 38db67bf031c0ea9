"""Builds HEIC and AVIF pictures box by box, and JPEG 2000 files with features that encoders do not write."""

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rtseg.core.files import file_url


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I", len(joined) + 8) + kind + joined


def full(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def colours(primaries: int, transfer: int, matrix: int, *, whole: bool = False) -> bytes:
    """The colour box; `whole`: black is 0."""
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, whole << 7))


def heic(
    image: np.ndarray, tile_hw: tuple[int, int], transforms: tuple[bytes, ...] = (), pix_fmt: str = "yuv420p",
    codes: tuple[int, int, int] = (2, 2, 2), beside: tuple[np.ndarray, ...] = (), refs: bytes = b"",
) -> bytes:  # fmt: skip
    """A HEIC of uint8 BGR; in tiles if it is larger than one, which may extend beyond the right and lower edge.

    Args:
        image: the picture.
        tile_hw: the size of a tile.
        transforms: boxes that say how to show it.
        pix_fmt: its pixel format.
        codes: primaries, transfer and matrix in the coded picture.
        beside: additional pictures, for one without tiles.
        refs: the boxes with their relations to it.
    """
    height, width = tile_hw
    rows, columns = -(-image.shape[0] // height), -(-image.shape[1] // width)
    whole = np.pad(image, ((0, rows * height - image.shape[0]), (0, columns * width - image.shape[1]), (0, 0)), "edge")
    tiles = [
        whole[top : top + height, left : left + width]
        for top in range(0, rows * height, height)
        for left in range(0, columns * width, width)
    ]
    coded = [_hevc(tile, pix_fmt, codes) for tile in (*tiles, *beside)]
    size = struct.pack(">HH", image.shape[1], image.shape[0])
    grid = b"" if beside else bytes([0, 0, rows - 1, columns - 1]) + size
    return heif(b"hvc1", [data for data, _ in coded], box(b"hvcC", coded[0][1]), tile_hw, transforms, grid, refs=refs)


def avif(image: np.ndarray, transforms: tuple[bytes, ...]) -> bytes:
    """An AVIF of uint8 BGR."""
    plain = cv2.imencode(".avif", image, [cv2.IMWRITE_AVIF_QUALITY, 95])[1].tobytes()
    place = plain.index(b"av1C") - 4
    config = plain[place : place + int.from_bytes(plain[place : place + 4], "big")]
    return heif(b"av01", [plain[plain.index(b"mdat") + 4 :]], config, image.shape[:2], transforms, b"", b"avif")


def heif(
    kind: bytes, items: list[bytes], config: bytes, size_hw: tuple[int, ...], transforms: tuple[bytes, ...],
    grid: bytes, brand: bytes = b"heic", refs: bytes = b"",
) -> bytes:  # fmt: skip
    """A file of one item, of several without a `grid`, or of a grid of them; `transforms` are boxes."""
    count = len(items)
    tiled = count > 1 and bool(grid)
    last = count + 1 if tiled else 1  # the primary item
    kinds = dict.fromkeys(range(1, count + 1), kind) | ({last: b"grid"} if tiled else {})
    entries = [full(b"infe", struct.pack(">HH", n, 0), name, b"\0", version=2) for n, name in kinds.items()]
    size = full(b"ispe", struct.pack(">II", size_hw[1], size_hw[0]))
    whole = full(b"ispe", b"\0\0", grid[4:6], b"\0\0", grid[6:8]) if tiled else size
    depths = full(b"pixi", b"\3\x08\x08\x08")
    properties = (config, size, whole, depths, *transforms)
    own = bytes(0x80 | 5 + place for place in range(len(transforms)))  # the highest bit marks it as essential
    uses = dict.fromkeys(kinds, b"\x81\x02\x04") | {last: (b"\3" if tiled else b"\x81\2\4") + own}
    table = b"".join(struct.pack(">HB", n, len(used)) + used for n, used in uses.items())
    if tiled:
        refs = box(b"dimg", struct.pack(f">HH{count}H", last, count, *range(1, count + 1)))

    def meta(start: int) -> bytes:
        places = b""
        for number, item in enumerate(items, 1):
            places += struct.pack(">HHHHII", number, 0, 0, 1, start, len(item))
            start += len(item)
        if tiled:
            places += struct.pack(">HHHHII", last, 1, 0, 1, 0, len(grid))
        return full(
            b"meta",
            full(b"hdlr", b"\0\0\0\0pict" + bytes(13)),
            full(b"pitm", struct.pack(">H", last)),
            full(b"iloc", struct.pack(">HH", 0x4400, len(kinds)), places, version=1),
            full(b"iinf", struct.pack(">H", len(kinds)), *entries),
            full(b"iref", refs) if refs else b"",
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", struct.pack(">I", len(kinds)), table)),
            box(b"idat", grid) if tiled else b"",
        )

    head = box(b"ftyp", brand, bytes(4), b"mif1", brand)
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *items)


def _hevc(image: np.ndarray, pix_fmt: str, codes: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """(the picture with lengths before its units, its hvcC)."""
    encoder = av.CodecContext.create("libx265", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *image.shape[:2], pix_fmt, Fraction(1, 25)
    encoder.color_primaries, encoder.color_trc, encoder.colorspace = codes
    encoder.framerate = Fraction(25)
    encoder.options = {"x265-params": "log-level=none:keyint=1", "crf": "5", "preset": "ultrafast"}
    encoder.flags |= av.codec.context.Flags.global_header
    frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pix_fmt)
    stream = b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))
    assert encoder.extradata is not None
    sets = _units(encoder.extradata)
    config = bytes.fromhex("01016000000090000000000 05df000fcfdf8f800000f".replace(" ", "")) + bytes([len(sets)])
    for unit in sets:
        config += bytes([0x80 | unit[0] >> 1 & 63]) + struct.pack(">HH", 1, len(unit)) + unit
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in _units(stream)), config


def _units(stream: bytes) -> list[bytes]:
    return re.split(b"\0\0\0\1|\0\0\1", stream)[1:]


def jpeg2000(path: Path, pix_fmt: str, image: np.ndarray, form: str = "rgb24") -> bytes:
    """Writes an array as a lossless .jp2 in `form`, and returns its bytes."""
    with av.open(file_url(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("jpeg2000", rate=1, options={"pred": "dwt53", "format": "jp2"})
        stream.height, stream.width = image.shape[-2:] if form == "yuv444p" else image.shape[:2]
        stream.pix_fmt = pix_fmt
        frame = av.VideoFrame.from_ndarray(image, format=form)
        container.mux([*stream.encode(frame.reformat(format=pix_fmt)), *stream.encode(None)])
    return path.read_bytes()


def with_palette(data: bytes, colours: np.ndarray) -> bytes:
    """A grey .jp2 whose values become indices into a palette, uint8 RGB (n, 3)."""
    start = data.index(b"jp2h") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    inner = data[start + 8 : start + length].replace(struct.pack(">I", 17), struct.pack(">I", 16))  # grey: sRGB
    inner += box(b"pclr", struct.pack(">HB3B", len(colours), 3, 7, 7, 7), colours.tobytes())
    inner += box(b"cmap", *(struct.pack(">HBB", 0, 1, channel) for channel in range(3)))
    return data[:start] + box(b"jp2h", inner) + data[start + length :]
