"""Pictures of every depth, palette and plane order, written byte by byte from two pictures with few colours."""

import struct
import zlib
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 16, 24
COLOURED = np.zeros((HEIGHT, WIDTH, 3), np.uint8)  # RGB
COLOURED[:8], COLOURED[8:, :12], COLOURED[8:, 12:] = 255, (255, 0, 85), (85, 170, 255)  # whole steps of 2, 4, 8 bits
GREY = np.zeros((HEIGHT, WIDTH), np.uint8)
GREY[:8, 12:], GREY[8:, 12:] = 255, 85
_COLOURS = np.unique(COLOURED.reshape(-1, 3), axis=0)
PLACES = np.array([[int(np.where((pixel == _COLOURS).all(1))[0][0]) for pixel in row] for row in COLOURED])


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of values with the given number of bits, high bits first, each row padded to whole bytes."""
    out = bytearray()
    for row in values.reshape(len(values), -1).tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        out += int(text, 2).to_bytes(len(text) // 8, "big")
    return bytes(out)


def scaled(values: np.ndarray, bits: int) -> np.ndarray:
    return np.round(values.astype(float) * ((1 << bits) - 1) / 255).astype(int)


def pnm(values: np.ndarray, most: int, plain: bool) -> bytes:
    kind = {(False, 2): 5, (False, 3): 6, (True, 2): 2, (True, 3): 3}[plain, values.ndim]
    numbers = np.round(values.astype(float) * most / 255).astype(int)
    head = b"P%d # a remark\n%d %d\n%d\n" % (kind, WIDTH, HEIGHT, most)
    if plain:
        return head + " ".join(map(str, numbers.ravel())).encode()
    return head + numbers.astype(">u2" if most > 255 else np.uint8).tobytes()


def exif(orientation: int) -> bytes:
    """EXIF data with just an orientation."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def turned(data: bytes, orientation: int) -> bytes:
    """A JPEG or PNG with an orientation in its EXIF data."""
    block = exif(orientation)
    if data[:2] == b"\xff\xd8":
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + data[2:]
    chunk = b"eXIf" + block
    return data[:33] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def png(bits: int, kind: int, data: bytes, palette: bool = False) -> bytes:
    def part(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row = len(data) // HEIGHT
    lines = b"".join(b"\0" + data[place : place + row] for place in range(0, len(data), row))
    head = part(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, 0))
    colours = part(b"PLTE", _COLOURS.tobytes()) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + head + colours + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")


def tiff(bits: int, channels: int, photometric: int, data: bytes, *, planes: bool = False, form: int = 1,
         pages: int = 1) -> bytes:  # fmt: skip
    """`form`: 1 unsigned, 2 signed, 3 floating; photometric 3 is a palette."""
    strips = channels if planes else 1
    step = len(data) // strips
    tags = [(256, 3, [WIDTH]), (257, 3, [HEIGHT]), (258, 3, [bits] * channels), (259, 3, [1]), (262, 3, [photometric]),
            (273, 4, [0] * strips), (277, 3, [channels]), (278, 3, [HEIGHT]), (279, 4, [step] * strips),
            (284, 3, [2 if planes else 1]), (339, 3, [form])]  # fmt: skip
    if photometric == 3:
        table = np.zeros((3, 1 << bits), int)
        table[:, : len(_COLOURS)] = _COLOURS.T.astype(int) * 257
        tags.insert(9, (320, 3, table.ravel().tolist()))
        tags.sort()
    out, place, places = bytearray(b"II*\0" + struct.pack("<I", 8 + len(data)) + data), 8 + len(data), []
    for page in range(pages):
        extra, rows = bytearray(), bytearray(struct.pack("<H", len(tags)))
        after = place + 2 + 12 * len(tags) + 4
        for tag, kind, values in tags:
            if tag == 273:
                values = [8 + step * strip for strip in range(strips)]
            content = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
            if len(content) > 4:
                rows += struct.pack("<HHII", tag, kind, len(values), after + len(extra))
                extra += content
            else:
                rows += struct.pack("<HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
        following = after + len(extra)
        out += rows + struct.pack("<I", following if page + 1 < pages else 0) + extra
        places.append(place)
        place = following
    return bytes(out)


def write_all(folder: Path) -> dict[str, np.ndarray | None]:
    """Writes them; name -> expected pixels, RGB or grey, or None if the file must be rejected."""
    files: dict[str, tuple[bytes, np.ndarray | None]] = {}
    for most in (3, 15, 255, 1023, 65535):
        for plain in (False, True):
            files[f"grey{most}{plain}.pgm"] = pnm(GREY, most, plain), GREY
            files[f"colour{most}{plain}.pnm"] = pnm(COLOURED, most, plain), COLOURED
    files["bits.pbm"] = b"P4\n%d %d\n" % (WIDTH, HEIGHT) + packed(1 - PLACES // 3, 1), PLACES // 3 * np.uint8(255)
    head = b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" % (WIDTH, HEIGHT)
    files["a.pam"] = head + COLOURED.tobytes(), COLOURED
    for bits in (2, 4, 8, 16):
        files[f"grey{bits}.png"] = png(bits, 0, packed(scaled(GREY, bits), bits)), GREY
        if bits < 16:
            files[f"palette{bits}.png"] = png(bits, 3, packed(PLACES, bits), palette=True), COLOURED
    files["colour16.png"] = png(16, 2, packed(scaled(COLOURED, 16), 16)), COLOURED
    for bits in (8, 12, 16):
        for photometric, shown in ((0, 255 - GREY), (1, GREY), (2, COLOURED)):
            values = scaled(COLOURED if photometric == 2 else GREY, bits)
            data = values.astype("<u2").tobytes() if bits == 16 else packed(values, bits)
            channels = 3 if photometric == 2 else 1
            files[f"tiff{bits}_{photometric}.tif"] = tiff(bits, channels, photometric, data), shown
    for bits in (4, 8):
        files[f"palette{bits}.tif"] = tiff(bits, 1, 3, packed(PLACES, bits)), COLOURED
    planes = COLOURED.transpose(2, 0, 1)
    files["planes8.tif"] = tiff(8, 3, 2, planes.tobytes(), planes=True), COLOURED
    files["planes16.tif"] = tiff(16, 3, 2, (planes.astype("<u2") * 257).tobytes(), planes=True), None
    files["signed.tif"] = tiff(16, 1, 1, GREY.astype("<i2").tobytes(), form=2), None
    files["floating.tif"] = tiff(32, 1, 1, GREY.astype("<f4").tobytes(), form=3), None
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {name: shown for name, (_, shown) in files.items()}
