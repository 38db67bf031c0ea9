"""Builds, byte by byte, files that no muxer writes: restarting clocks, empty chunks, fields, covers."""

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from odd_media import SIZE, Video, numbered
from picture_files import turned

from rtseg.core.files import file_url

_KEY = 0x10  # AVIIF_KEYFRAME


def restarted(path: Path, times: int = 2, sound: str | None = "aac", **changes: object) -> Path:
    """A recording several times over in one transport stream; the numbers of its pictures start again too."""
    once = Video(f"once_{path.name}", sound=sound, frames=25, options={"bf": "2"}, form="mpegts", **changes)  # type: ignore[arg-type]
    path.write_bytes(once.make(path.parent).read_bytes() * times)
    return path


def leaping(path: Path, leap_s: int) -> Path:
    """A transport stream whose clock jumps after 12 of 24 pictures, as if an encoder had restarted."""
    with av.open(file_url(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(24):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24")
            for packet in stream.encode(frame.reformat(format="yuv420p")):
                ticks = number * 3600 + (leap_s * 90_000 if number >= 12 else 0)
                packet.pts = packet.dts = ticks
                packet.time_base = Fraction(1, 90_000)
                container.mux(packet)
    return path


def empty_chunks(path: Path, last: bool) -> Path:
    """A 25 fps AVI of which every third chunk, or the `last` two, are empty: 'show the picture before again'."""
    whole = Video(f"full_{path.name}", "mjpeg", "yuvj420p").make(path.parent).read_bytes()

    def emptied(pictures: list[bytes]) -> list[tuple[bytes, int]]:
        kept = [b"" if (number >= 10 if last else number % 3 == 2) else p for number, p in enumerate(pictures)]
        return [(picture, _KEY if picture else 0) for picture in kept]

    return _rewritten(path, whole, emptied)


def packed_b_frames(path: Path) -> Path:
    """An AVI like DivX's: a B frame is in the chunk of the preceding P frame, an empty picture in its own."""
    whole = Video(f"full_{path.name}", "mpeg4", options={"bf": "1", "g": "100"}).make(path.parent).read_bytes()

    def packed(pictures: list[bytes]) -> list[tuple[bytes, int]]:
        place = pictures[0].index(b"\0\0\1\xb2")  # the encoder's name
        version = b"\0\0\1\xb2DivX503b1393p"
        made = [pictures[0][:place] + version + pictures[0][pictures[0].index(b"\0\0\1\xb6", place) :]]
        for number in range(1, len(pictures), 2):
            made.append(b"".join(pictures[number : number + 2]))
            made += [b"\0\0\1\xb6\x5f\xff"] * len(pictures[number + 1 : number + 2])
        return [(picture, 0 if number else _KEY) for number, picture in enumerate(made)]

    return _rewritten(path, whole, packed)


def _rewritten(path: Path, whole: bytes, change: Callable[[list[bytes]], list[tuple[bytes, int]]]) -> Path:
    """An AVI with other pictures: `change` maps the present ones to new ones, with their flags in the index."""
    out, index = bytearray(), bytearray()
    for kind, data in _chunks(whole, 12):
        if kind == b"LIST" and data[:4] == b"movi":
            body = bytearray(b"movi")
            for picture, flags in change([picture for name, picture in _chunks(data, 4) if name == b"00dc"]):
                index += b"00dc" + struct.pack("<III", flags, len(body), len(picture))
                body += _chunk(b"00dc", picture)
            out += _chunk(b"LIST", bytes(body))
        elif kind == b"idx1":
            out += _chunk(b"idx1", bytes(index))
        elif kind in (b"LIST", b"JUNK"):
            out += _chunk(kind, data)
    path.write_bytes(_chunk(b"RIFF", b"AVI " + bytes(out)))
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _chunks(data: bytes, place: int) -> Iterator[tuple[bytes, bytes]]:
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def with_cover(path: Path, codec: str | None, sound: str | None) -> Path:
    """A video, or only sound, with a larger still picture that is marked as the cover."""
    with av.open(file_url(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 128, 192, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream(codec, rate=25) if codec else None
        tone = container.add_stream(sound, rate=48000, layout="mono") if sound else None
        if stream is not None:
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        container.start_encoding()
        grey = av.VideoFrame.from_ndarray(np.full((128, 192, 3), 90, np.uint8), format="bgr24")
        container.mux([*cover.encode(grey.reformat(format="yuvj420p")), *cover.encode(None)])
        for number in range(12 if stream is not None else 0):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))  # type: ignore[union-attr]
        if stream is not None:
            container.mux(stream.encode(None))
        if tone is not None:
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), format="fltp", layout="mono")
            quiet.sample_rate = 48000
            container.mux([*tone.encode(quiet), *tone.encode(None)])
    return path


def cover_first(path: Path) -> None:
    """Moves an MP4's cover in front of its tracks, like tagging programs: FFmpeg then counts it as stream 0."""
    whole = bytearray(path.read_bytes())
    start = whole.index(b"moov") - 4
    end = start + int.from_bytes(whole[start : start + 4], "big")
    boxes, place = [], start + 8
    while place < end:
        length = int.from_bytes(whole[place : place + 4], "big")
        boxes.append(bytes(whole[place : place + length]))
        place += length
    boxes.sort(key=lambda box: (b"mvhd", b"udta").index(box[4:8]) if box[4:8] in (b"mvhd", b"udta") else 2)
    whole[start + 8 : end] = b"".join(boxes)
    path.write_bytes(whole)


def two_streams(path: Path, default: int | None) -> Path:
    """A small video with numbers from 0, and a larger one with numbers from 20; `default` is the marked one."""
    with av.open(file_url(path), "w") as container:
        streams = []
        for place, size_hw in enumerate((SIZE, (96, 144))):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size_hw, "yuv420p"
            if default is not None:
                stream.disposition = av.stream.Disposition.default if place == default else av.stream.Disposition(0)
            streams.append((stream, size_hw, 20 * place))
        for number in range(12):
            for stream, size_hw, first in streams:
                frame = av.VideoFrame.from_ndarray(numbered(first + number, size_hw), format="bgr24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream, *_ in streams:
            container.mux(stream.encode(None))
    return path


def jpegs_with_exif(path: Path, orientation: int) -> Path:
    """Motion JPEG in AVI whose pictures hold an EXIF block, as from digital cameras."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width, codec.pix_fmt, codec.time_base = *SIZE, "yuvj420p", Fraction(1, 25)  # type: ignore[attr-defined]
    with av.open(file_url(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuvj420p"
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for encoded in codec.encode(frame):  # type: ignore[attr-defined]
                packet = av.Packet(turned(bytes(encoded), orientation))
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
                packet.pts = packet.dts = number
                container.mux(packet)
    return path
