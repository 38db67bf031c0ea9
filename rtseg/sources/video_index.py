"""An index of a video file: every timestamp and every key frame, with hardly any decoding."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rtseg.sources.clock import Timeline
from rtseg.sources.containers import (
    frames_told,
    is_unreadable,
    opened,
    packets_missing,
    stream_notes,
    video_stream,
)
from rtseg.sources.decoder import Decoder, is_shown, stream_packets

log = logging.getLogger(__name__)

_SAMPLE = 300  # pictures
_REORDERED = 64  # a picture is stored at most this many places from where it is shown: no codec keeps more
_HEAD = 64  # packets to decode, to check that they are pictures


@dataclass(frozen=True)
class VideoIndex:
    """The pictures of a video stream, in the order in which they are shown.

    Attributes:
        time_base: seconds per tick.
        frames: number of pictures, including those that cannot be decoded; may be off by a few if `pts` is None.
        announced: number of pictures that the container claims, or None; an estimate if it states only a duration.
        pts: int64 (frames,), ticks, strictly increasing; None if timestamps are missing, repeated, jump back, or differ
            from those of the decoded pictures, so that pictures can only be found by counting from the start.
        keys: int64, `pts` of the pictures at which decoding may start; empty if `pts` is None.
        start: timestamp of the first picture, in ticks; 0 if none is known.
        duration: ticks for which the last picture is shown.
        notes: what a user should know about it.
    """

    time_base: Fraction
    frames: int
    announced: int | None
    pts: np.ndarray | None
    keys: np.ndarray
    start: int
    duration: int
    notes: tuple[str, ...] = ()


def estimate_frames(path: Path) -> int | None:
    """How many pictures a file's head states, or else its duration or first packets suggest; None: unknown.

    Raises:
        InputError: the file cannot be opened or has no video.
    """
    with opened(path) as container:
        stream = video_stream(container, str(path))
        seconds = float(container.duration / av.time_base) if container.duration else 0.0
        told = frames_told(container, stream) or round(seconds * float(stream.average_rate or 0))
        return told or _frames_by_size(container, stream, path.stat().st_size) or None


def index_video(path: Path, *, decode: bool = False) -> VideoIndex:
    """Reads every packet of a file's video, at disk speed, and decodes the first pictures.

    If these show that packets are not pictures (two fields form one, some are empty, timestamps are invented), or if
    `decode` is True, the whole file is decoded, which takes longer.

    Raises:
        InputError: the file cannot be opened or has no video.
    """
    with opened(path) as container:
        stream = video_stream(container, str(path))
        walk = _Walk(container, stream)
        index = walk.index()
    head = None if decode else _head(path)
    if head is None or not head.fits:
        return _decoded_index(path, index)
    if head.lead and index.pts is not None:  # the recording begins between two key frames
        pts = index.pts[head.lead :]
        return replace(index, frames=len(pts), pts=pts, start=int(pts[0]))
    return index


def _frames_by_size(container: InputContainer, stream: VideoStream, size: int) -> int:
    """How many pictures fit into the file, by the size of its first packets."""
    pictures = taken = 0
    with suppress(av.error.InvalidDataError, IndexError):  # IndexError at the end, if a stream appeared later
        for packet in container.demux():
            taken += packet.size
            pictures += packet.stream is stream and packet.size > 0
            if pictures == _SAMPLE:
                return round(size * pictures / taken)
    return pictures


class _Walk:
    """What a stream's packets say."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self._pts: list[int | None] = []
        self._dts: list[int] = []
        self._keys: list[int] = []
        self._duration = 0
        self._timeline = Timeline(container)
        self._damaged = False
        try:
            for packet in stream_packets(container, stream, self._timeline):
                if is_shown(packet):
                    self._add(packet)
        except av.error.FFmpegError as error:
            if is_unreadable(error):
                raise
            self._damaged = True  # decoders continue after the damage, which cannot be repeated from another start

    def _add(self, packet: "Packet[Any]") -> None:
        self._pts.append(packet.pts)
        self._duration = packet.duration or self._duration
        if packet.dts is not None:
            self._dts.append(packet.dts)
        if packet.is_keyframe and packet.pts is not None:
            self._keys.append(packet.pts)

    def index(self) -> VideoIndex:
        container, stream, frames = self._container, self._stream, len(self._pts)
        time_base = stream.time_base or Fraction(1, 1000)
        restarts = self._timeline.restarts
        shown = None if self._damaged or restarts else _increasing(self._pts)
        rate = stream.average_rate
        end = max((tick for tick in self._pts if tick is not None), default=0) + self._duration
        missing = None if self._damaged else packets_missing(container, stream, frames, end, self._timeline.end_s)
        first = self._dts if container.format.name == "avi" else self._pts
        notes = stream_notes(container, stream)
        if restarts:
            times = "once" if restarts == 1 else f"{restarts} times"
            notes.append(f"its clock restarts {times}: pictures and sound continue where they were")
        return VideoIndex(
            time_base=time_base,
            frames=frames,
            announced=missing or (frames if frames_told(container, stream) else None),
            pts=shown,
            keys=np.array(sorted(self._keys) if shown is not None else [], np.int64),
            start=min((tick for tick in first[:_REORDERED] if tick is not None), default=0),
            duration=self._duration or (max(1, round(1 / (rate * time_base))) if rate else 1),
            notes=tuple(notes),
        )


@dataclass(frozen=True)
class _Head:
    """Whether the first packets of a file are its first pictures, except for the first `lead`, which yield none."""

    fits: bool
    lead: int = 0


def _head(path: Path) -> _Head:
    """Decodes the first packets and compares."""
    packets: list[int | None] = []
    pictures: list[int | None] = []
    with opened(path) as container:
        stream = video_stream(container, str(path))
        if stream.codec_context is None:
            return _Head(fits=True)  # decoding it raises the error
        try:
            for packet in islice(stream_packets(container, stream, Timeline(container)), _HEAD):
                packets += [packet.pts] * is_shown(packet)
                pictures += [frame.pts for frame in packet.decode()]
            pictures += [frame.pts for frame in stream.codec_context.decode(None)]
        except av.error.EOFError:
            pass  # the file is so short that everything was decoded before
        except av.error.FFmpegError:
            return _Head(fits=True)  # damage: a picture that cannot be decoded still counts
    if None in packets:
        return _Head(fits=len(packets) == len(pictures))
    lead = len(packets) - len(pictures)
    told = sorted(tick for tick in packets if tick is not None)
    return _Head(fits=0 <= lead < _HEAD // 2 and pictures == told[lead:], lead=lead)


def _decoded_index(path: Path, index: VideoIndex) -> VideoIndex:
    """The index according to decoding."""
    log.info("%s: its pictures are counted by decoding them", path)
    pts: list[int | None] = []
    frames = 0
    with opened(path) as container:
        stream = video_stream(container, str(path))
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"skip_loop_filter": "all", "skip_idct": "all"}  # nobody looks at the pictures
        decoder = Decoder(container, stream, str(path))
        for number, frame in decoder.pictures():
            pts.append(frame.pts)
            frames = number + 1
    rise = all(one is not None and other is not None and one < other for one, other in pairwise(pts))
    shown = _increasing(pts) if index.pts is not None and rise and not decoder.corrupt else None
    return replace(
        index,
        frames=max(frames, len(pts) + decoder.corrupt),
        announced=index.announced if (index.announced or 0) > index.frames else None,
        pts=shown,
        keys=index.keys[np.isin(index.keys, shown)] if shown is not None else np.empty(0, np.int64),
        start=index.start if shown is None else int(shown[0]),
    )


def _increasing(pts: list[int | None]) -> np.ndarray | None:
    """The timestamps in display order; None if they do not distinguish all pictures."""
    if not pts or None in pts:
        return None
    stored = np.array(pts, np.int64)
    order = np.argsort(stored, kind="stable")
    shown = stored[order]
    if np.any(np.diff(shown) <= 0) or np.any(np.abs(order - np.arange(len(order))) > _REORDERED):
        return None
    return shown
