"""Field-coded H.264 (PAFF), as AVCHD camcorders and 1080i broadcasts have it: two packets make one picture.

Every macroblock is I_PCM, so nothing has to be predicted or transformed (ITU-T H.264, 7.3).
"""

import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from odd_media import SIZE, numbered

from rtseg.core.files import file_url

_ROWS, _COLUMNS = SIZE[0] // 16, SIZE[1] // 16  # macroblocks of a picture


class _Bits:
    def __init__(self) -> None:
        self._whole = bytearray()
        self._bits = ""  # of the byte that is begun, and of those behind it

    def fixed(self, width: int, value: int) -> "_Bits":
        self._bits += f"{value:0{width}b}"
        return self

    def golomb(self, *values: int) -> "_Bits":
        for value in values:
            digits = f"{value + 1:b}"
            self._bits += "0" * (len(digits) - 1) + digits
        return self

    def aligned(self, data: bytes = b"") -> "_Bits":
        text = self._bits + "0" * (-len(self._bits) % 8)
        self._whole += int(text or "0", 2).to_bytes(len(text) // 8, "big") + data
        self._bits = ""
        return self

    def ended(self) -> bytes:
        return bytes(self.fixed(1, 1).aligned()._whole)


def _unit(head: int, payload: bytes) -> bytes:
    return b"\0\0\0\1" + bytes([head]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", payload)


def _settings() -> bytes:
    sps = _Bits().fixed(24, 77 << 16 | 30).golomb(0, 0, 0, 4, 1).fixed(1, 0).golomb(_COLUMNS - 1, _ROWS // 2 - 1)
    sps.fixed(5, 0b00101).fixed(4, 0).fixed(1, 1).fixed(32, 1).fixed(32, 50).fixed(5, 0b10000)
    pps = _Bits().golomb(0, 0).fixed(2, 0b01).golomb(0, 0, 0).fixed(3, 0).golomb(0, 0, 0).fixed(3, 0)
    return _unit(0x67, sps.ended()) + _unit(0x68, pps.ended())


def _field(number: int, bottom: int) -> bytes:
    first = number == 0 and not bottom
    bits = _Bits().golomb(0, 7, 0).fixed(4, number % 16).fixed(2, 0b10 | bottom)
    if first:
        bits.golomb(0)
    bits.fixed(8, (2 * number + bottom) % 256).fixed(2 if first else 1, 0).golomb(0)
    planes = np.asarray(cv2.cvtColor(numbered(number), cv2.COLOR_BGR2YUV_I420))
    height, width = SIZE
    luma = planes[:height][bottom::2]
    chroma = [plane.reshape(height // 2, width // 2)[bottom::2] for plane in np.split(planes[height:].ravel(), 2)]
    for row in range(_ROWS // 2):
        for column in range(_COLUMNS):
            block = luma[16 * row :, 16 * column :][:16, :16].tobytes()
            block += b"".join(plane[8 * row :, 8 * column :][:8, :8].tobytes() for plane in chroma)
            bits.golomb(25).aligned(block)
    return _unit(0x65 if first else 0x61, bits.ended())


def field_coded(path: Path, frames: int, pairs: bool) -> Path:
    """An MPEG-TS with a timestamp for every field, or for every pair of them."""
    bare = path.with_suffix(".h264")
    delimiter = _unit(0x09, b"\xf0")
    fields = [
        [delimiter + (b"" if bottom else _settings()) + _field(number, bottom) for bottom in (0, 1)]
        for number in range(frames)
    ]
    bare.write_bytes(b"".join(b"".join(pair) for pair in fields))
    with av.open(file_url(bare)) as source, av.open(file_url(path), "w", format="mpegts") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        pieces = [b"".join(pair) for pair in fields] if pairs else [field for pair in fields for field in pair]
        step = 3600 if pairs else 1800
        for number, piece in enumerate(pieces):
            packet = av.Packet(piece)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 90_000), True
            packet.pts = packet.dts = 90_000 + number * step
            packet.duration = step
            container.mux(packet)
    return path
