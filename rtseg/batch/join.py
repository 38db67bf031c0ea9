"""Joins segments to one video without re-encoding, and adds the sound of the source."""

import heapq
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet

from rtseg.batch.sound import Sound, Timed, tracks
from rtseg.core.errors import OutputError
from rtseg.core.files import file_url, is_full
from rtseg.sinks.h264 import MOST_TICKS, most_ticks
from rtseg.sinks.video import reason_of_write
from rtseg.sources.containers import reason_of

log = logging.getLogger(__name__)

Part = tuple[Path, np.ndarray]
"""A video, and int64 (frames,), the ticks of its pictures."""


def join_segments(
    parts: Sequence[Part], target: Path, time_base: Fraction, last_duration: int, sound: Sound | None = None
) -> list[str]:
    """Writes one video from the packets of `parts`: an MP4 with its index first, or a Matroska file, by its name.

    Args:
        parts: videos with the same settings and no B frames, and the times of their pictures.
        target: the file to write.
        time_base: seconds per tick; ticks get longer if MP4 cannot hold so many for one picture.
        last_duration: ticks for which the last picture is shown.
        sound: what to do with the audio streams; a stream that cannot be added as planned is encoded, or else left out.

    Returns:
        What a user should know about the sound.

    Raises:
        OutputError: the file cannot be written.
    """
    attempts = [sound, sound.encoded(), None] if sound and sound.ways else [None]
    lost: list[str] = []
    for attempt in attempts:
        try:
            return (attempt.notes if attempt else lost) + _join(parts, target, time_base, last_duration, attempt)
        except Exception as error:  # whatever is wrong with the sound, it must not cost the labels
            known = isinstance(error, av.error.FFmpegError | OSError | ValueError)
            if known and (is_full(error) or attempt is None):
                raise OutputError(f"cannot write {target}: {reason_of_write(error)}") from error
            if attempt is None:
                raise
            log.info("%s with its sound", target, exc_info=error)
            lost = [f"{attempt.source.name}: its sound is left out: {reason_of(error)}"]
    raise AssertionError("the last attempt returns or raises")


def _join(
    parts: Sequence[Part], target: Path, source_base: Fraction, last_duration: int, sound: Sound | None
) -> list[str]:
    with ExitStack() as stack:
        time_base, ticks = _clock(parts, source_base, last_duration)
        options = {"movflags": "+faststart", "movie_timescale": str(_timescale(time_base))}
        if time_base != source_base:
            options["video_track_timescale"] = str(time_base.denominator)
        output = stack.enter_context(
            av.open(file_url(target), "w", container_options=options if target.suffix == ".mp4" else {})
        )
        first = stack.enter_context(_opened(parts[0][0])).streams.video[0]
        video = output.add_stream_from_template(first)
        video.time_base = time_base
        sounds = list(tracks(sound, output, stack)) if sound else []
        early = max([Fraction(0), *(-track.start for track in sounds)])  # sound may begin before the pictures
        delay = math.ceil(early / time_base)
        streams = [video, *(track.output for track in sounds)]
        last = max(1, round(last_duration * source_base / time_base))
        queues = [_pictures(parts, ticks + delay, time_base, last)]
        queues += [track.packets(place, delay * time_base) for place, track in enumerate(sounds, start=1)]
        for _, place, packet in heapq.merge(*queues, key=lambda timed: timed[:2]):
            packet.stream = streams[place]
            output.mux(packet)
    early_ends = [track.ends_early for track in sounds if track.ends_early]
    return [f"{sound.source.name}: sound ends early: {why}" for why in early_ends] if sound else []


def _timescale(time_base: Fraction) -> int:
    """The time scale of the whole file. Edit lists count in it, so a delayed start is exact if it fits this."""
    return time_base.denominator if 1000 <= time_base.denominator < 1 << 31 else 1000


def _clock(parts: Sequence[Part], time_base: Fraction, last_duration: int) -> tuple[Fraction, np.ndarray]:
    """Seconds per tick, and int64 (frames,), the rising ticks of all pictures."""
    ticks = _rising(np.concatenate([of_part for _, of_part in parts]))
    longest = max(last_duration, int(np.diff(ticks).max(initial=0)))
    if longest <= most_ticks(time_base):
        return time_base, ticks
    coarser = Fraction(1, max(1, int(MOST_TICKS / (longest * time_base))))
    return coarser, _rising(np.rint(ticks * float(time_base / coarser)).astype(np.int64))


def _rising(ticks: np.ndarray) -> np.ndarray:
    """The ticks, int64 (frames,), each later than the one before; moved as little as necessary."""
    places = np.arange(len(ticks))
    rising: np.ndarray = np.maximum.accumulate(ticks - places) + places
    return rising


def _opened(path: Path) -> InputContainer:
    try:
        return av.open(file_url(path))
    except av.error.InvalidDataError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> OutputError:
    return OutputError(f"{path} was damaged after it was written: --overwrite starts over")


def _packets(parts: Sequence[Part], ticks: np.ndarray) -> "Iterator[tuple[Packet[Any], int]]":
    """The packets of all parts, and when to show each."""
    first = 0
    for path, of_part in parts:
        these = ticks[first : first + len(of_part)].tolist()
        first += len(of_part)
        with _opened(path) as container:
            try:
                yield from zip((packet for packet in container.demux(video=0) if packet.size), these, strict=True)
            except ValueError as error:  # from FFmpeg if it cannot read, and from zip if the number of packets differs
                raise _damaged(path) from error


def _pictures(parts: Sequence[Part], ticks: np.ndarray, time_base: Fraction, last_duration: int) -> Iterator[Timed]:
    held: Timed | None = None  # the newest, since the very last one gets another duration
    for packet, tick in _packets(parts, ticks):
        if held is not None:
            yield held
        packet.time_base = time_base
        packet.pts = packet.dts = tick
        held = tick * time_base, 0, packet
    if held is not None:
        held[2].duration = last_duration
        yield held
