"""Decodes one video stream from where its container stands, past whatever is damaged."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import perf_counter
from typing import Any

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.core.errors import InputError
from rtseg.sources.clock import Timeline
from rtseg.sources.containers import frames_told, is_unreadable, packets_missing, reason_of
from rtseg.sources.scrambled import encrypted

log = logging.getLogger(__name__)

_FAILURES_ALLOWED = 200  # failed reads without a frame between them until the rest counts as lost


class NoPicturesError(InputError):
    """A live stream sends sound, or what cannot be decoded."""


class Decoder:
    """The pictures of a stream in the order in which they are shown.

    Attributes:
        corrupt: pictures that could not be decoded, so far.
        restarts: how often the file's clock has started again; the pictures' timestamps go on.
        told: once all is read, how many frames there were to be where some are missing; else None.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, name: str, *, url: bool = False, live: bool = False,
        timeout_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Reads from a file, or from a `url` that may give nothing for `timeout_s`; `name` is for messages.

        Where it is `live`, it may give no picture for so long.
        """
        self.corrupt = 0
        self.told: int | None = None
        self._container = container
        self._stream = stream
        self._name = name
        self._url = url
        self._timeout_s = timeout_s
        self._live = live
        self._latest_s = perf_counter()
        self._timeline = Timeline(container)
        self._index = self._packets = self._end = self._failures = 0

    @property
    def restarts(self) -> int:
        return self._timeline.restarts

    def pictures(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yields (index, picture); an index counts what could not be decoded, too.

        Raises:
            InputError: the disk or the network gives nothing any more.
            NoPicturesError: a live stream goes on, but not its pictures.
        """
        while True:
            try:
                for packet in stream_packets(self._container, self._stream, self._timeline, self._check_blank):
                    yield from self._decoded(packet)
                self.told = packets_missing(
                    self._container, self._stream, self._packets, self._end, self._timeline.end_s
                )
                return
            except av.error.ExitError:
                yield from self._frames(None)
                raise InputError(
                    f"{self._name} sent nothing for {self._timeout_s:g} s: the stream has stopped"
                ) from None
            except av.error.FFmpegError as error:
                self.corrupt, self._failures = self.corrupt + 1, self._failures + 1
                if is_unreadable(error) or (self._url and isinstance(error, OSError)):
                    yield from self._frames(None)
                    if self._is_whole():
                        self.corrupt -= 1
                        return
                    hint = "start again" if self._url else "check the disk or the network drive"
                    raise InputError(f"{self._name} broke off: {reason_of(error)}; {hint}") from error
                if self._failures > _FAILURES_ALLOWED:
                    log.warning("%s: the rest cannot be read: %s", self._name, reason_of(error))
                    return

    def _decoded(self, packet: "Packet[Any]") -> Iterator[tuple[int, VideoFrame]]:
        if packet.pts is not None:
            self._end = max(self._end, packet.pts + (packet.duration or 0))
        self._packets += is_shown(packet)
        yield from self._frames(packet)

    def _is_whole(self) -> bool:
        """Whether all is there: some servers break off behind the end of a file whose length they do not say."""
        told = None if self._live else frames_told(self._container, self._stream)
        return told is not None and self._packets >= told

    def _frames(self, packet: "Packet[Any] | None") -> Iterator[tuple[int, VideoFrame]]:
        """What the decoder gives for a packet; for None what it still holds."""
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            log.debug("%s: packet skipped: %s", self._name, error)
            self._check_blank()
            self.corrupt, self._index = self.corrupt + 1, self._index + 1
            return
        for frame in frames:
            if frame.is_corrupt:
                self.corrupt += 1
            else:
                self._failures = 0
                yield self._index, frame
                self._latest_s = perf_counter()  # whoever takes the picture may take their time
            self._index += 1

    def _check_blank(self) -> None:
        if self._live and perf_counter() - self._latest_s > self._timeout_s:
            raise NoPicturesError(f"{self._name} sent no picture for {self._timeout_s:g} s, but keeps sending data")


def stream_packets(
    container: InputContainer, stream: Stream, timeline: Timeline, passed: Callable[[], None] = lambda: None
) -> "Iterator[Packet[Any]]":
    """A stream's packets on one clock, and at the end the empty one that makes a decoder give what it holds.

    Pictures and sound are read together, since either may be the first to tell that the clock has started again.
    `passed` is called for each packet of another stream.
    """
    for packet in _demuxed(container):
        if packet.size:
            if packet.stream is stream and packet.has_sidedata("encryption_info"):
                raise encrypted(container.name.removeprefix("file:"))
            if not timeline.place(packet):
                continue
        elif packet.dts is not None:
            continue  # an empty packet among others would end the decoder
        if packet.stream is stream:
            yield packet
        else:
            passed()


def _demuxed(container: InputContainer) -> "Iterator[Packet[Any]]":
    # what `demux` gives at the end of each stream fails where a stream has appeared that was not there at first; this
    # comes last, behind those that are known
    with suppress(IndexError):
        yield from container.demux([*container.streams.video, *container.streams.audio])


def is_shown(packet: "Packet[Any]") -> bool:
    """False for the empty packet at the end, and for what an edit list cuts away."""
    return packet.size > 0 and not packet.is_discard
