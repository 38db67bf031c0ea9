"""Takes the sound of an input over into its overlay: copied where MP4 holds it, else encoded, else left out."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from rtseg.core.errors import InputError
from rtseg.core.files import file_url
from rtseg.sources.clock import Timeline
from rtseg.sources.containers import reason_of
from rtseg.sources.decoder import stream_packets

COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")  # what MP4 holds and players expect in it
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_TRIED = 24  # packets

Timed = tuple[Fraction, int, "Packet[Any]"]
"""(when it is decoded, in seconds; place of its stream; packet)"""


@dataclass(frozen=True)
class Sound:
    """Whose sound to take over, and when its first picture is shown, in seconds of its own clock."""

    source: Path
    video_start: Fraction
    copy: bool = True


class Track:
    """One audio stream of the source on its way into the output.

    Attributes:
        output: the stream that it becomes.
        start: when it begins, in seconds after the first picture.
    """

    def __init__(
        self, source: InputContainer, stream: AudioStream, output: OutputContainer, sound: Sound, copied: bool
    ) -> None:
        """Adds a stream to the output; raises FFmpegError or ValueError where there is no way to."""
        assert stream.time_base is not None
        self.ends_early: str | None = None
        self._source = source
        self._stream = stream
        self._zero = sound.video_start
        self._time_base = stream.time_base
        self.start = (stream.start_time or 0) * stream.time_base - sound.video_start
        self._copied = copied
        if copied:
            self.output = output.add_stream_from_template(stream)
            return
        rate = min(_AAC_RATES, key=lambda known: abs(known - stream.rate))
        self.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        self.output = output.add_stream("aac", rate=rate, layout=self.layout)
        self._wanted = "fltp", self.layout, rate

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
                    continue  # MP4 cannot hold a time twice
                last = decoded_at
                yield decoded_at * packet.time_base, place, packet
        except av.error.FFmpegError as error:
            self.ends_early = reason_of(error)

    def _read(self) -> "Iterator[Packet[Any]]":
        return stream_packets(self._source, self._stream, Timeline(self._source))

    def _copies(self, shift: int) -> "Iterator[Packet[Any]]":
        before, length = None, 1
        for packet in self._read():
            if not packet.size or packet.pts is None:
                continue
            packet.pts += shift
            packet.dts = packet.pts if packet.dts is None else packet.dts + shift
            if before is not None:
                length = max(1, packet.dts - before)
            before = packet.dts
            packet.duration = packet.duration or length  # MP4 cuts away a last one that lasts for no time
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
                if before not in (None, given):  # broadcasts go from stereo to mono; a resampler takes one kind only
                    for piece in resampler.resample(None):
                        yield from self.output.encode(piece)
                    resampler = AudioResampler(*self._wanted)
                for piece in resampler.resample(frame):
                    yield from self.output.encode(piece)
        for piece in resampler.resample(None):
            yield from self.output.encode(piece)
        yield from self.output.encode(None)


def tracks(sound: Sound, output: OutputContainer, stack: ExitStack, notes: list[str]) -> Iterator[Track]:
    """The audio streams that can be taken over; each reads the source on its own."""
    with _open(sound) as probe:
        indices = [stream.index for stream in probe.streams.audio]
    for index in indices:
        about, copied = _way(sound, index)
        if copied is None:
            notes.append(f"{sound.source.name}: sound ({about}) is left out, since this build of FFmpeg cannot read it")
            continue
        source = stack.enter_context(_open(sound))
        stream = source.streams[index]
        assert isinstance(stream, AudioStream)
        track = Track(source, stream, output, sound, copied)
        if not copied:
            why = "MP4 does not hold it" if sound.copy else "it cannot be copied"
            notes.append(f"{sound.source.name}: sound ({about}) is encoded as AAC, {track.layout}, since {why}")
        yield track


def _way(sound: Sound, index: int) -> tuple[str, bool | None]:
    """(what the stream is, whether it is copied; None: it can be neither copied nor encoded), by trying."""
    with _open(sound) as source:
        stream = source.streams[index]
        if not isinstance(stream, AudioStream) or stream.codec_context is None or not stream.rate:
            return "of an unknown kind", None
        name = stream.codec_context.codec.canonical_name
        about = f"{name}, {stream.rate} Hz"
    try:
        if sound.copy and name in COPIED and _try(sound, index, copied=True):
            return about, True
        return about, False if _try(sound, index, copied=False) else None
    except InputError:
        return f"{about}, encrypted", None


def _try(sound: Sound, index: int, copied: bool) -> bool:
    """Whether the first packets of a stream get into an MP4; raises InputError where it is encrypted."""
    with suppress(av.error.FFmpegError, ValueError), _open(sound) as source:
        stream = source.streams[index]
        assert isinstance(stream, AudioStream)
        with av.open(BytesIO(), "w", format="mp4") as output:
            track = Track(source, stream, output, sound, copied)
            taken = 0
            for _, _, packet in islice(track.packets(0, -track.start), _TRIED):
                packet.stream = track.output
                output.mux(packet)
                taken += 1
        return bool(taken) or track.ends_early is None
    return False


def _open(sound: Sound) -> InputContainer:
    return av.open(file_url(sound.source), metadata_errors="replace")
