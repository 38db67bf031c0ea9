"""H.264 for players that show each picture at once: MP4 fragments with one picture each (ISO/IEC 14496-12)."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType
from av.video.stream import VideoStream

from rtseg.core.errors import OutputError
from rtseg.core.sizes import Size, format_size
from rtseg.sinks.h264 import FRAGMENTED, ONE_KEY_FRAME, PRESET, add_h264, size_hint, to_yuv

_TICKS = 90_000  # per second
_NOMINAL_FPS = Fraction(30)
_LASTS = _TICKS  # ticks for which a picture is shown if no other follows
_OPTIONS = {
    "preset": PRESET,
    "tune": "zerolatency",  # each picture's packet comes out at once
    "crf": "26",
    "maxrate": "6M",
    "bufsize": "1500k",  # so no key frame exceeds 190 KB
    "sc_threshold": "0",  # key frames are made only on request
    "forced-idr": "1",
    "x264-params": "annexb=0",  # each part of a packet starts with its length, as in MP4
}
_IS_KEY, _NEEDS_OTHERS = 0x02000000, 0x01010000  # sample flags


@dataclass(frozen=True)
class Fragment:
    """One encoded picture.

    Attributes:
        data: `moof` and `mdat`.
        time_s: when to show it, on the player's clock.
        is_key: it can be played without earlier pictures.
    """

    data: bytes
    time_s: float
    is_key: bool


class FragmentEncoder:
    """Encodes pictures of one size; one thread at a time may use it.

    The head comes from the muxer for recordings. The fragments do not, since FFmpeg ends one only when the next picture
    arrives, which would delay every picture by one.

    Attributes:
        head: `ftyp` and `moov`, which a player needs first.
        codec: the codec's name in a media type, such as 'avc1.64001f' (RFC 6381).
        size_hw: (height, width) of the pictures.
    """

    def __init__(self, size_hw: Size) -> None:
        """Opens the encoder; raises OutputError if it does not take pictures of this size."""
        self.size_hw = size_hw
        self._number = 0
        self._last_tick = -1
        file = BytesIO()
        try:
            self._container = av.open(file, "w", format="mp4", options={"movflags": FRAGMENTED})
            self._stream = add_h264(
                self._container, size_hw, _NOMINAL_FPS, Fraction(1, _TICKS), ONE_KEY_FRAME, _OPTIONS, threads=1
            )
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            raise self._error(error) from error
        self.head = file.getvalue()
        profile = self.head.index(b"avcC") + 5
        self.codec = f"avc1.{self.head[profile : profile + 3].hex()}"

    def encode(self, picture: np.ndarray, time_s: float, *, key: bool = False) -> Fragment:
        """Encodes the next picture.

        Args:
            picture: uint8 BGR (H, W, 3), of this size.
            time_s: seconds, later than the last one's; they are at least a tick of 1/90000 s apart.
            key: make it a key frame, which needs no earlier pictures; the first always is one.

        Raises:
            OutputError: encoding failed.
        """
        yuv = to_yuv(picture, self.size_hw)
        yuv.pts = self._last_tick = max(self._last_tick + 1, round(time_s * _TICKS))
        yuv.time_base = Fraction(1, _TICKS)
        if key:
            yuv.pict_type = PictureType.I
        try:
            (packet,) = self._stream.encode(yuv)
        except (av.error.FFmpegError, ValueError) as error:
            raise self._error(error) from error
        self._number += 1
        return Fragment(_fragment(self._number, packet), self._last_tick / _TICKS, packet.is_keyframe)

    def _error(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or error
        return OutputError(
            f"pictures of {format_size(self.size_hw)} cannot be encoded as H.264: {reason}{size_hint(self.size_hw)}"
        )


def _fragment(number: int, packet: "Packet[VideoStream]") -> bytes:
    data = bytes(packet)
    flags = _IS_KEY if packet.is_keyframe else _NEEDS_OTHERS
    # one sample with duration, size and flags; its data follow this `moof` of 100 bytes and a head of 8
    run = _box(b"trun", ">IIIIII", 0x000701, 1, 108, _LASTS, len(data), flags)
    time = _box(b"tfdt", ">IQ", 0x01000000, packet.pts)
    track = _box(b"tfhd", ">II", 0x020000, 1)  # offsets are relative to the `moof`
    return _join(b"moof", _box(b"mfhd", ">II", 0, number), _join(b"traf", track, time, run)) + _join(b"mdat", data)


def _box(kind: bytes, form: str, *fields: int | None) -> bytes:
    return _join(kind, struct.pack(form, *fields))


def _join(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content
