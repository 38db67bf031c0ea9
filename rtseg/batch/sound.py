"""Adds the sound of an input to its overlay: copied if MP4 can hold it, otherwise encoded, otherwise left out.

Which of these is decided by trying, before any frame is labelled (`plan_sound`).
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import av
import av.error
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from rtseg.core.errors import InputError
from rtseg.core.files import file_url
from rtseg.sources.clock import Timeline
from rtseg.sources.containers import open_media, reason_of
from rtseg.sources.decoder import stream_packets

log = logging.getLogger(__name__)

COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")  # codecs that MP4 can hold and players expect in it
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_TRIED = 24  # packets to try
_FAR_MB = 64
_FAR = {"probesize": str(_FAR_MB * 10**6), "analyzeduration": str(3600 * 10**6)}
_UNREADABLE = "this build of FFmpeg cannot read it"

Timed = tuple[Fraction, int, "Packet[Any]"]
"""(decoding time in seconds, position of its stream, packet)"""


@dataclass(frozen=True)
class Way:
    """What happens to one audio stream.

    Attributes:
        index: the stream's index in the source.
        about: what it is.
        fate: what happens to it.
        why: why it is not copied.
        aac: how it would be encoded.
    """

    index: int
    about: str
    fate: Literal["copied", "encoded", "left out"]
    why: str = ""
    aac: str = ""

    @property
    def note(self) -> str | None:
        """What a user should know; None if the sound stays as it is."""
        made = {"copied": None, "encoded": f"encoded as AAC, {self.aac}", "left out": "left out"}[self.fate]
        return made and f"sound ({self.about}) is {made}, since {self.why}"


@dataclass(frozen=True)
class Sound:
    """Which file's sound to add, how, and when its first picture is shown, in seconds of the file's own clock."""

    source: Path
    video_start: Fraction
    ways: tuple[Way, ...]

    @property
    def notes(self) -> list[str]:
        """What a user should know about each stream."""
        return [f"{self.source.name}: {way.note}" for way in self.ways if way.note]

    def encoded(self) -> Self:
        """The same with every stream encoded, none copied."""
        ways = [replace(way, fate="encoded", why="it cannot be copied") if way.fate == "copied" else way
                for way in self.ways]  # fmt: skip
        return replace(self, ways=tuple(ways))


class Track:
    """One audio stream on its way from the source into the output.

    Attributes:
        output: the stream in the output.
        start: when it begins, in seconds after the first picture.
    """

    def __init__(
        self, source: InputContainer, stream: AudioStream, output: OutputContainer, video_start: Fraction, copied: bool
    ) -> None:
        """Adds a stream to the output; raises FFmpegError or ValueError if that is impossible."""
        assert stream.time_base is not None
        self.ends_early: str | None = None
        self._source = source
        self._stream = stream
        self._zero = video_start
        self._time_base = stream.time_base
        self.start = (stream.start_time or 0) * stream.time_base - video_start
        self._copied = copied
        if copied:
            self.output = output.add_stream_from_template(stream)
            return
        layout, rate = _aac_of(stream)
        self.output = output.add_stream("aac", rate=rate, layout=layout)
        self._wanted = "fltp", layout, rate

    def packets(self, place: int, delay: Fraction) -> Iterator[Timed]:
        """The stream's packets up to the first damage."""
        shift = round((delay - self._zero) / self._time_base)
        made = self._copies(shift) if self._copied else self._encoded(shift)
        last: int | None = None
        try:
            for packet in made:
                assert packet.time_base is not None
                decoded_at = packet.dts if packet.dts is not None else packet.pts or 0
                if last is not None and decoded_at <= last:
                    continue  # MP4 cannot hold the same time twice
                last = decoded_at
                yield decoded_at * packet.time_base, place, packet
        except av.error.FFmpegError as error:
            self.ends_early = reason_of(error)

    def _read(self) -> "Iterator[Packet[Any]]":
        return stream_packets(self._source, self._stream, Timeline(self._source))

    def _copies(self, shift: int) -> "Iterator[Packet[Any]]":
        before, length = None, 1
        ts = self._source.format.name == "mpegts"  # MPEG-TS also marks packets before a gap
        for packet in self._read():
            if not packet.size or packet.pts is None or (packet.is_corrupt and not ts):  # cut off by the file's end
                continue
            packet.pts += shift
            packet.dts = packet.pts if packet.dts is None else packet.dts + shift
            if before is not None:
                length = max(1, packet.dts - before)
            before = packet.dts
            packet.duration = packet.duration or length  # MP4 drops a last packet without duration
            yield packet

    def _encoded(self, shift: int) -> "Iterator[Packet[Any]]":
        resampler, given = AudioResampler(*self._wanted), None
        for packet in self._read():
            try:
                frames = self._stream.decode(packet)
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                if frame.pts is not None:
                    frame.pts += shift
                before, given = given, (frame.format.name, frame.layout.name, frame.sample_rate)
                if before not in (None, given):  # broadcasts change to mono; a resampler takes only one format
                    for piece in resampler.resample(None):
                        yield from self.output.encode(piece)
                    resampler = AudioResampler(*self._wanted)
                for piece in resampler.resample(frame):
                    yield from self.output.encode(piece)
        for piece in resampler.resample(None):
            yield from self.output.encode(piece)
        yield from self.output.encode(None)


def plan_sound(source: Path) -> tuple[Way, ...]:
    """Decides by trying what happens to each audio stream of a file."""
    try:
        with _open(source) as probe:
            indices = [stream.index for stream in probe.streams.audio]
    except (av.error.FFmpegError, OSError) as error:
        return (Way(0, "of an unknown kind", "left out", f"it cannot be read: {reason_of(error)}"),)
    return tuple(_safe_way(source, index) for index in indices)


def tracks(sound: Sound, output: OutputContainer, stack: ExitStack) -> Iterator[Track]:
    """The audio streams to add; each reads the source separately."""
    for way in sound.ways:
        if way.fate != "left out":
            source = stack.enter_context(_open(sound.source))
            stream = source.streams[way.index]
            assert isinstance(stream, AudioStream)
            yield Track(source, stream, output, sound.video_start, way.fate == "copied")


def _safe_way(path: Path, index: int) -> Way:
    try:
        return _way(path, index)
    except Exception as error:  # whatever is wrong with the sound, it must not cost the labels
        log.info("sound of %s", path, exc_info=error)
        return Way(index, "of an unknown kind", "left out", f"it cannot be read: {reason_of(error)}")


def _way(path: Path, index: int) -> Way:
    with _open(path) as source:
        stream = source.streams[index]
        if not isinstance(stream, AudioStream) or stream.codec_context is None:
            return Way(index, "of an unknown kind", "left out", _UNREADABLE)
        name = stream.codec_context.codec.canonical_name
        if not stream.rate:
            return Way(index, name, "left out", f"none is found in the first {_FAR_MB} MB of the file")
        layout, rate = _aac_of(stream)
        about, aac = f"{name}, {stream.rate} Hz", layout if rate == stream.rate else f"{layout}, {rate} Hz"
    try:
        if name in COPIED and _try(path, index, copied=True):
            return Way(index, about, "copied", aac=aac)
        taken = _try(path, index, copied=False)
    except InputError:
        return Way(index, about, "left out", "it is encrypted")
    if taken:
        return Way(index, about, "encoded", "MP4 does not hold it", aac)
    return Way(index, about, "left out", _UNREADABLE if taken is None else "nothing in it can be decoded")


def _aac_of(stream: AudioStream) -> tuple[str, int]:
    """(layout, samples per second) for encoding a stream."""
    rate = min(_AAC_RATES, key=lambda known: abs(known - stream.rate))
    return "mono" if stream.codec_context.channels == 1 else "stereo", rate


def _try(path: Path, index: int, copied: bool) -> int | None:
    """How many of a stream's first packets MP4 takes; None: none works. Raises InputError if it is encrypted."""
    with suppress(av.error.FFmpegError, ValueError), _open(path) as source:
        stream = source.streams[index]
        assert isinstance(stream, AudioStream)
        with av.open(BytesIO(), "w", format="mp4") as output:
            track = Track(source, stream, output, Fraction(0), copied)
            taken = 0
            for _, _, packet in islice(track.packets(0, -track.start), _TRIED):
                packet.stream = track.output
                output.mux(packet)
                taken += 1
        return taken if taken or track.ends_early is None else None
    return None


def _open(path: Path) -> InputContainer:
    """Opens a file, also one whose sound begins late: FFmpeg normally looks only at the first seconds."""
    container = open_media(file_url(path))
    if all(stream.codec_context is None or stream.rate for stream in container.streams.audio):
        return container
    container.close()
    return open_media(file_url(path), _FAR)
