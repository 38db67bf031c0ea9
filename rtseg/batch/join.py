"""Joins segments to one video without encoding anything anew, and takes the sound over from the source."""

import heapq
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from rtseg.core.errors import OutputError
from rtseg.core.files import file_url
from rtseg.vision.containers import reason_of
from rtseg.vision.sink_video import reason_of_write

COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")  # what MP4 holds and players expect in it
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)

Timed = tuple[Fraction, int, "Packet[Any]"]
"""(when it is decoded, in seconds; place of its stream; packet)"""


@dataclass(frozen=True)
class Sound:
    """Whose sound to take over, and when its first picture is shown, in seconds of its own clock."""

    source: Path
    video_start: Fraction


def join_segments(
    parts: Sequence[tuple[Path, int]], target: Path, time_base: Fraction, last_duration: int, sound: Sound | None = None
) -> list[str]:
    """Writes one video from the packets of `parts`: an MP4 whose index comes first, or by its name a Matroska file.

    Args:
        parts: videos of equal settings without B frames, each with the time of its first picture, in ticks.
        target: the file to write.
        time_base: seconds a tick.
        last_duration: ticks that the very last picture is shown for.
        sound: audio streams are copied where `COPIED` names their codec, else encoded as AAC.

    Returns:
        What a user should know about the sound.

    Raises:
        OutputError: it cannot be written.
    """
    notes: list[str] = []
    try:
        with ExitStack() as stack:
            options = {"movflags": "+faststart", "movie_timescale": str(_timescale(time_base))}
            output = stack.enter_context(
                av.open(file_url(target), "w", container_options=options if target.suffix == ".mp4" else {})
            )
            first = stack.enter_context(av.open(file_url(parts[0][0]))).streams.video[0]
            video = output.add_stream_from_template(first)
            video.time_base = time_base
            tracks = list(_tracks(sound, output, stack, notes)) if sound else []
            early = max([Fraction(0), *(-track.start for track in tracks)])  # sound that begins before the pictures
            delay = math.ceil(early / time_base)
            streams = [video, *(track.output for track in tracks)]
            queues = [_pictures(parts, time_base, last_duration, delay)]
            queues += [track.packets(place, delay * time_base) for place, track in enumerate(tracks, start=1)]
            for _, place, packet in heapq.merge(*queues, key=lambda timed: timed[:2]):
                packet.stream = streams[place]
                output.mux(packet)
    except (av.error.FFmpegError, OSError) as error:
        raise OutputError(f"cannot write {target}: {reason_of_write(error)}") from error
    return notes


def _timescale(time_base: Fraction) -> int:
    """Of the whole file; edit lists count in it, so that a delayed start is exact where this fits."""
    return time_base.denominator if 1000 <= time_base.denominator < 1 << 31 else 1000


def _pictures(
    parts: Sequence[tuple[Path, int]], time_base: Fraction, last_duration: int, delay: int
) -> Iterator[Timed]:
    held: Timed | None = None  # the newest, since the last one's duration is not what its part says
    for path, start in parts:
        with av.open(file_url(path)) as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None
            for packet in container.demux(stream):
                if not packet.size or packet.pts is None:
                    continue
                if held is not None:
                    yield held
                ticks = round(packet.pts * stream.time_base / time_base) + start + delay
                packet.time_base = time_base
                packet.pts = packet.dts = ticks
                held = ticks * time_base, 0, packet
    if held is not None:
        held[2].duration = last_duration
        yield held


class _Track:
    """One audio stream of the source on its way into the output."""

    def __init__(
        self, source: InputContainer, stream: AudioStream, output: OutputContainer, sound: Sound, notes: list[str]
    ) -> None:
        assert stream.time_base is not None
        self._source = source
        self._stream = stream
        self._notes = notes
        self._name = sound.source.name
        self._zero = sound.video_start
        self._time_base = stream.time_base
        self.start = (stream.start_time or 0) * stream.time_base - sound.video_start
        name = stream.codec_context.codec.canonical_name
        self._copied = name in COPIED
        if self._copied:
            self.output = output.add_stream_from_template(stream)
            return
        rate = min(_AAC_RATES, key=lambda known: abs(known - stream.rate))
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        self.output = output.add_stream("aac", rate=rate, layout=layout)
        self._wanted = "fltp", layout, rate
        notes.append(f"{sound.source.name}: sound ({name}) is encoded as AAC, {layout}, since MP4 does not hold it")

    def packets(self, place: int, delay: Fraction) -> Iterator[Timed]:
        """The stream's packets, up to where it is damaged."""
        shift = round((delay - self._zero) / self._time_base)
        made = self._copies(shift) if self._copied else self._encoded(shift)
        last: int | None = None
        try:
            for packet in made:
                assert packet.time_base is not None
                decoded_at = packet.dts if packet.dts is not None else packet.pts or 0
                if last is not None and decoded_at <= last:
                    continue  # a broadcast that jumps back: MP4 cannot hold it
                last = decoded_at
                yield decoded_at * packet.time_base, place, packet
        except av.error.FFmpegError as error:
            self._notes.append(f"{self._name}: sound ends early: {reason_of(error)}")

    def _copies(self, shift: int) -> "Iterator[Packet[Any]]":
        for packet in self._source.demux(self._stream):
            if not packet.size or packet.pts is None:
                continue
            packet.pts += shift
            packet.dts = packet.pts if packet.dts is None else packet.dts + shift
            yield packet

    def _encoded(self, shift: int) -> "Iterator[Packet[Any]]":
        resampler, given = AudioResampler(*self._wanted), None
        for packet in self._source.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                if frame.pts is not None:
                    frame.pts += shift
                before, given = given, (frame.format.name, frame.layout.name, frame.sample_rate)
                if before not in (None, given):  # broadcasts go from stereo to mono; a resampler takes one kind only
                    for piece in resampler.resample(None):
                        yield from self.output.encode(piece)
                    resampler = AudioResampler(*self._wanted)
                for piece in resampler.resample(frame):
                    yield from self.output.encode(piece)
        for piece in resampler.resample(None):
            yield from self.output.encode(piece)
        yield from self.output.encode(None)


def _tracks(sound: Sound, output: OutputContainer, stack: ExitStack, notes: list[str]) -> Iterator[_Track]:
    """The audio streams that can be taken over; each reads the source on its own."""
    with av.open(file_url(sound.source), metadata_errors="replace") as probe:
        indices = [stream.index for stream in probe.streams.audio]
    for index in indices:
        source = stack.enter_context(av.open(file_url(sound.source), metadata_errors="replace"))
        stream = source.streams[index]
        assert isinstance(stream, AudioStream)
        if stream.codec_context is None or not stream.rate:
            notes.append(f"{sound.source.name}: a sound track is left out, since this build of FFmpeg cannot read it")
            continue
        yield _Track(source, stream, output, sound, notes)
