"""Decodes one video stream from the container's position on, skipping what is damaged."""

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

_FAILURES_ALLOWED = 200  # after so many failed reads without a frame, the rest counts as lost


class NoPicturesError(InputError):
    """A live stream sends only sound, or nothing that can be decoded."""


class Decoder:
    """The pictures of a stream, in the order in which they are shown.

    Attributes:
        corrupt: pictures so far that could not be decoded.
        restarts: how often the file's clock has restarted; the pictures' timestamps continue.
        told: at the end, how many frames there should have been if some are missing; else None.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, name: str, *, url: bool = False, live: bool = False,
        timeout_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Reads from a file, or from a `url` that may be silent for `timeout_s`; `name` is for messages.

        If it is `live`, it may also go without a picture for that long.
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
        """Yields (index, picture); the index also counts pictures that could not be decoded.

        Raises:
            InputError: the disk or network fails.
            NoPicturesError: a live stream continues, but without pictures.
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
        """Whether everything was read: a server that states no length may break off at the end of the file."""
        told = None if self._live else frames_told(self._container, self._stream)
        return told is not None and self._packets >= told

    def _frames(self, packet: "Packet[Any] | None") -> Iterator[tuple[int, VideoFrame]]:
        """The frames that the decoder returns for a packet; for None, those that it still holds."""
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
                self._latest_s = perf_counter()  # the caller may take its time with the picture
            self._index += 1

    def _check_blank(self) -> None:
        if self._live and perf_counter() - self._latest_s > self._timeout_s:
            raise NoPicturesError(f"{self._name} sent no picture for {self._timeout_s:g} s, but keeps sending data")


def stream_packets(
    container: InputContainer, stream: Stream, timeline: Timeline, passed: Callable[[], None] = lambda: None
) -> "Iterator[Packet[Any]]":
    """A stream's packets on one clock, then the empty packet that makes a decoder return the frames it still holds.

    Pictures and sound are read together, since either may show first that the clock has restarted. `passed` is called
    for each packet of another stream.
    """
    for packet in _demuxed(container):
        if packet.size:
            if packet.stream is stream and packet.has_sidedata("encryption_info"):
                raise encrypted(container.name.removeprefix("file:"))
            if not timeline.place(packet):
                continue
        elif packet.dts is not None:
            continue  # an empty packet before the end would end the decoder
        if packet.stream is stream:
            yield packet
        else:
            passed()


def _demuxed(container: InputContainer) -> "Iterator[Packet[Any]]":
    # `demux` fails in its packets for the end of each stream if a stream has appeared that was not there at first; that
    # one is last, after the known streams
    with suppress(IndexError):
        yield from container.demux([*container.streams.video, *container.streams.audio])


def is_shown(packet: "Packet[Any]") -> bool:
    """False for the empty packet at the end, and for packets that an edit list removes."""
    return packet.size > 0 and not packet.is_discard
