"""Where the pictures of a video file lie: every timestamp and every key frame, read without decoding."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rtseg.core.errors import InputError
from rtseg.core.files import file_url
from rtseg.core.sizes import Size
from rtseg.vision.source_video import frames_by_duration, frames_told, is_unreadable, reason_of

_SAMPLE = 300  # pictures
_REORDERED = 64  # a picture lies at most so many places from where it is shown; no codec keeps more in mind


@dataclass(frozen=True)
class VideoIndex:
    """The pictures of a video stream, as its packets announce them.

    Attributes:
        time_base: seconds a tick.
        frames: pictures; where `pts` is None an estimate, since not every packet need hold one.
        announced: number of pictures that the container claims, or None; an estimate where it says its duration only.
        pts: int64 (frames,), ticks, strictly increasing; None where timestamps are missing, occur twice or jump back,
            so that a picture can only be found by counting from the start.
        keys: int64, `pts` of the pictures that decoding may start at; empty where `pts` is None.
        start: timestamp of the first picture, in ticks; 0 where none is known.
        duration: ticks that the last picture is shown for.
        size_hw: (height, width) as stored, before a rotation is applied.
        aspect: width of a pixel by its height, as stored; None: square or unknown.
    """

    time_base: Fraction
    frames: int
    announced: int | None
    pts: np.ndarray | None
    keys: np.ndarray
    start: int
    duration: int
    size_hw: Size = (0, 0)
    aspect: Fraction | None = None


def estimate_frames(path: Path) -> int | None:
    """How many pictures a file's head announces, or else its duration or its first packets suggest; None: nothing.

    Raises:
        InputError: the file cannot be opened or holds no video.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        seconds = float(container.duration / av.time_base) if container.duration else 0.0
        told = frames_told(container, stream) or round(seconds * float(stream.average_rate or 0))
        return told or _frames_by_size(container, stream, path.stat().st_size) or None


def index_video(path: Path) -> VideoIndex:
    """Reads every packet of a file's first video stream, at the speed of the disk.

    Raises:
        InputError: the file cannot be opened or holds no video.
    """
    with _opened(path) as container:
        return _index(container)


def _frames_by_size(container: InputContainer, stream: VideoStream, size: int) -> int:
    """As many as the file has room for, by the size of the first packets."""
    pictures = taken = 0
    with suppress(av.error.InvalidDataError):
        for packet in container.demux():
            taken += packet.size
            pictures += packet.stream is stream and packet.size > 0
            if pictures == _SAMPLE:
                return round(size * pictures / taken)
    return pictures


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    try:
        with av.open(file_url(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise InputError(f"{path} holds no video stream: it is sound only, damaged or cut short")
            yield container
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"cannot open {path}: {reason_of(error)}; damaged, cut short or no video") from error


def _index(container: InputContainer) -> VideoIndex:
    stream = container.streams.video[0]
    pts: list[int | None] = []
    keys: list[int] = []
    duration = 0
    damaged = False
    try:
        for packet in container.demux(stream):
            if not _shows(packet):
                continue
            pts.append(packet.pts)
            duration = packet.duration or duration
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
    except av.error.FFmpegError as error:
        if is_unreadable(error):
            raise
        damaged = True  # whoever decodes goes on behind it, which cannot be repeated from another place
    time_base = stream.time_base or Fraction(1, 1000)
    shown = None if damaged else _increasing(pts)
    rate = stream.average_rate
    end = max((tick for tick in pts if tick is not None), default=0) + duration
    told = None if damaged else frames_by_duration(container, stream, len(pts), end)
    return VideoIndex(
        time_base=time_base,
        frames=len(pts),
        announced=frames_told(container, stream) or told,
        pts=shown,
        keys=np.array(sorted(keys) if shown is not None else [], np.int64),
        start=min((tick for tick in pts[:_REORDERED] if tick is not None), default=0),
        duration=duration or (max(1, round(1 / (rate * time_base))) if rate else 1),
        size_hw=(stream.height, stream.width),
        aspect=_aspect(stream.sample_aspect_ratio),
    )


def _shows(packet: "Packet[Any]") -> bool:
    """False for the empty packet at the end, and for what an edit list cuts away."""
    return packet.size > 0 and not packet.is_discard


def _increasing(pts: list[int | None]) -> np.ndarray | None:
    """The timestamps in the order of showing; None where they do not tell every picture from every other."""
    if not pts or None in pts:
        return None
    stored = np.array(pts, np.int64)
    order = np.argsort(stored, kind="stable")
    shown = stored[order]
    if np.any(np.diff(shown) <= 0) or np.any(np.abs(order - np.arange(len(order))) > _REORDERED):
        return None
    return shown


def _aspect(ratio: Fraction | None) -> Fraction | None:
    return ratio if ratio and ratio > 0 and ratio != 1 else None
