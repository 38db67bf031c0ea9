"""Finds out from its container whether a video is encrypted; FFmpeg decodes such a video to nothing or garbage.

Scrambling bits: ISO/IEC 13818-1, 2.4.3.2 (packets of a transport stream) and 2.4.3.6 (PES packets; DVDs with CSS).
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import av
import av.error
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from rtseg.core.errors import InputError

_WINDOW = 1 << 19  # bytes to check at the start, in the middle and at the end
_SYNC, _SIZES = 0x47, (188, 192, 204)  # of a transport stream's packets: plain, with a timestamp, with error correction
_PADDING = 0x1FFF  # PID of empty packets
_PACK, _ANY_VIDEO = b"\0\0\1\xba", 0xE0  # program streams: first bytes, and the id of the first video
_LOOK_S = 2.0
_MOST_MOOV = 1 << 26
_MATROSKA_ENCRYPTION = b"\x50\x33\x81\x01"  # ContentEncodingType 1; 0 is compression
_EBML = b"\x1a\x45\xdf\xa3"  # first bytes of a Matroska file
_MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
_DRM_ENTRIES = (b"encv", b"drmi")  # MP4's sample kinds for encrypted video; the second is Apple's


def check_clear(container: InputContainer, stream: VideoStream, name: str) -> None:
    """Raises InputError if a video is encrypted, or most of it is scrambled."""
    asf = any(key.startswith("ASF_Protection") for key in container.metadata)
    mkv = "enc_key_id" in stream.metadata or _is_encrypted_matroska(container)
    if asf or mkv or _has_drm_entry(container, stream):
        raise encrypted(name)
    if _scrambled_share(container, stream) > 0.5:
        raise _scrambled(name)


def check_live(url: str, name: str, timeout_s: float, pids: Collection[int] = ()) -> None:
    """Raises InputError if a stream that sends no pictures is encrypted or scrambled, according to its first bytes.

    Args:
        url: its address; it is opened in another connection.
        name: for the message.
        timeout_s: how long to wait for it.
        pids: PIDs of its video in a transport stream; default: all.
    """
    data = _first_bytes(url, min(timeout_s, _LOOK_S))
    mp4 = data[4:8] == b"ftyp" and any(entry in data for entry in _DRM_ENTRIES)
    matroska = data.startswith(_EBML) and _MATROSKA_ENCRYPTION in data.partition(_MATROSKA_CLUSTER)[0]
    if mp4 or matroska:
        raise encrypted(name)
    bits = list(_pes_bits(data, _ANY_VIDEO) if data.startswith(_PACK) else _ts_bits(data, pids))
    if sum(map(bool, bits)) > len(bits) / 2:
        raise _scrambled(name)


def encrypted(name: str) -> InputError:
    """The error for a video that is encrypted according to its container."""
    return InputError(f"{name} is encrypted (DRM): decrypt it first")


def _scrambled(name: str) -> InputError:
    return InputError(f"{name} is scrambled (pay TV, or a DVD with CSS): descramble it first")


def scrambled_note(container: InputContainer, stream: Stream) -> str | None:
    """A note that part of a video is scrambled; None if it is not or that is unknown."""
    share = _scrambled_share(container, stream)
    return "parts of it are scrambled: pictures there are missing or damaged" if share else None


def _is_encrypted_matroska(container: InputContainer) -> bool:
    """Whether a Matroska file is encrypted. FFmpeg reports this only if the key has a name."""
    path = _path(container)
    if path is None or not container.format.name.startswith("matroska"):
        return False
    with path.open("rb") as file:
        return _MATROSKA_ENCRYPTION in file.read(_WINDOW).partition(_MATROSKA_CLUSTER)[0]


def _has_drm_entry(container: InputContainer, stream: VideoStream) -> bool:
    path = _path(container)
    if path is None or stream.codec_context is not None or "mp4" not in container.format.name:
        return False
    with path.open("rb") as file:
        place = 0
        while len(head := file.read(16)) == 16:
            length = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4], "big")
            if head[4:8] == b"moov":
                moov = file.read(min(length, _MOST_MOOV))
                return any(entry in moov for entry in _DRM_ENTRIES)
            if length < 8:
                break
            place += length
            file.seek(place)
    return False


def _scrambled_share(container: InputContainer, stream: Stream) -> float:
    """The scrambled share of a stream's packets, of those that are checked."""
    path, kind = _path(container), container.format.name
    if path is None or kind not in ("mpegts", "mpeg"):
        return 0.0
    seen = scrambled = 0
    with suppress(OSError):  # reading the video raises the error
        for data in _windows(path):
            for bits in _ts_bits(data, (stream.id,)) if kind == "mpegts" else _pes_bits(data, stream.id):
                seen, scrambled = seen + 1, scrambled + bool(bits)
    return scrambled / seen if seen else 0.0


def _first_bytes(url: str, timeout_s: float) -> bytes:
    """The first bytes that a network stream sends, as far as they arrive."""
    data, end = bytearray(), perf_counter() + timeout_s
    # some protocols send no bytes, and some servers accept only one client
    with suppress(av.error.FFmpegError, OSError), av.open(url, format="data", timeout=(timeout_s, timeout_s)) as raw:
        for packet in raw.demux():
            data += bytes(packet)
            if len(data) >= _WINDOW or perf_counter() > end:
                break
    return bytes(data)


def _path(container: InputContainer) -> Path | None:
    """The file that a container is read from; None if it is not a file."""
    path = Path(container.name.removeprefix("file:"))
    return path if container.name.startswith("file:") and path.is_file() else None


def _windows(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        for place in sorted({0, max(0, (size - _WINDOW) // 2), max(0, size - _WINDOW)}):
            file.seek(place)
            yield file.read(_WINDOW)


def _ts_bits(data: bytes, pids: Collection[int]) -> Iterator[int]:
    """Scrambling bits of every transport stream packet that is not empty, of some PIDs or all."""
    size, start = _packets(data)
    for place in range(start, len(data) - 187, size) if size else ():
        pid = (data[place + 1] & 31) << 8 | data[place + 2]
        wanted = pid in pids if pids else pid != _PADDING
        if data[place] == _SYNC and wanted and data[place + 3] & 0x10:
            yield data[place + 3] >> 6


def _packets(data: bytes) -> tuple[int, int]:
    """(bytes from packet to packet, start of the first one); (0, 0) if none is found."""
    for start in range(min(max(_SIZES), len(data))):
        for size in _SIZES:
            syncs = data[start : start + 8 * size : size]
            if len(syncs) > 1 and syncs.count(_SYNC) == len(syncs):
                return size, start
    return 0, 0


def _pes_bits(data: bytes, stream_id: int) -> Iterator[int]:
    """Scrambling bits of every PES packet of a program stream."""
    place, mark = 0, b"\0\0\1" + bytes([stream_id & 255])
    while 0 <= (place := data.find(mark, place)) < len(data) - 9:
        if data[place + 6] >> 6 == 2:
            yield data[place + 6] >> 4 & 3
        place += 6 + int.from_bytes(data[place + 4 : place + 6], "big")
