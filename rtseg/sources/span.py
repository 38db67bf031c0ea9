"""A part of a video file or of a row of pictures, with frames bit-identical to reading from the start."""

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from zlib import crc32

import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.core.errors import InputError
from rtseg.core.frame import Frame
from rtseg.core.sizes import Size
from rtseg.sources.base import Source
from rtseg.sources.clock import PictureClock
from rtseg.sources.images import read_images
from rtseg.sources.pixels import ToBgr
from rtseg.sources.prefetch import Prefetch
from rtseg.sources.video import VideoSource

log = logging.getLogger(__name__)
_FURTHER_S = 10.0  # containers without an index (MPEG-TS) seek to a place behind the one asked for
ENDLESS = 1 << 62  # the index behind the last frame if the number of frames is only known after decoding


class TimestampError(InputError):
    """Decoded pictures do not have the timestamps of their packets, so they can only be counted from the start."""


class _SeamError(Exception):
    """Decoding from inside the file does not return what decoding from its start returned."""


@dataclass(frozen=True)
class Span:
    """Which frames of a file to read.

    Attributes:
        first: index of the first wanted frame.
        stops: ends of the segments in the span, ascending; each is the first index of the next segment.
        size_hw: (height, width) of the file's first frame.
        fps: the file's nominal rate, or None.
        time_base: seconds per tick.
        origin: timestamp of the file's first frame, in ticks.
        pts: int64, timestamps of the frames to return, up to the last stop; None: frames are counted from the file's
            start.
        start: timestamp of the key frame to start decoding at; None: the file's start.
        before: CRC-32 of the picture before `first`, BGR as decoded from the start; None if it is not known.
        warm_up: frames before `first` to return as well. If seeking fails, they are returned a second time.
    """

    first: int
    stops: tuple[int, ...]
    size_hw: Size
    fps: float | None = None
    time_base: Fraction = Fraction(1, 1000)
    origin: int = 0
    pts: np.ndarray | None = field(default=None, compare=False)
    start: int | None = None
    before: int | None = None
    warm_up: int = 0


class SpanSource(Source):
    """What spans of videos and of pictures have in common.

    Attributes:
        reached: all frames before this index were returned; known once `read` has returned None.
        seams: index -> CRC-32 of the picture before each segment and of each segment's last one, as decoded.
    """

    def __init__(self, name: str, span: Span) -> None:
        Source.__init__(self, name)
        self.span = span
        self.reached = span.first
        self.seams: dict[int, int] = {}
        self._ends = frozenset((span.first, *span.stops))
        self._finishing = False

    def finish(self) -> None:
        """Ends the source at the end of the current segment; may be called from any thread."""
        self._finishing = True

    def _start(self, timeout_s: float | None = None) -> None:
        """Starts reading without waiting, since a span may have no frame that can be decoded."""
        self.size_hw = self.span.size_hw
        self._ahead = Prefetch(self._given(), self.depth, f"rtseg-source-{self.kind}")

    def _given(self) -> Generator[Frame, None, None]:
        """The frames of the span, until it ends or the segment in which `finish` was called ends."""
        stops = iter(self.span.stops)
        stop = next(stops)
        for frame in self._frames():
            while frame.index >= stop:
                self.reached = stop
                following = next(stops, None)
                if following is None or self._finishing:
                    return
                stop = following
            yield frame
        self.reached = self.span.stops[-1]

    def _note_seam(self, index: int, image: np.ndarray) -> None:
        if index + 1 in self._ends:
            self.seams[index] = crc32(np.ascontiguousarray(image).data)


class VideoSpan(SpanSource, VideoSource):
    """Frames of a video file, found by their timestamps, or by counting if timestamps do not identify them.

    Decoding starts a whole group of pictures early, so that open groups and gradual refresh have settled. The picture
    before the first one is compared with the result of decoding from the start. If it differs, or the container cannot
    seek, decoding starts at the beginning of the file.
    """

    kind = "video"

    def __init__(self, path: Path, span: Span, *, threads: int | None = None) -> None:
        SpanSource.__init__(self, str(path), span)
        self._picture = ToBgr(threads)
        VideoSource.__init__(self, path, threads=threads)

    def _frames(self) -> Generator[Frame, None, None]:
        if self.span.pts is None:
            yield from self._counted()
            return
        if self.span.start is not None:
            for margin_s in (0.0, _FURTHER_S):
                try:
                    yield from self._timed(self.span.start, margin_s)
                    return
                except _SeamError as error:
                    log.info("%s: %s", self.name, error)
                    self.corrupt = 0
        yield from self._timed(None)

    def _timed(self, start: int | None, margin_s: float = 0.0) -> Generator[Frame, None, None]:
        """Frames whose timestamps are in `span.pts`; raises _SeamError only before the first wanted frame."""
        span, pts = self.span, self.span.pts
        assert pts is not None
        with self._container() as container:
            stream = self._stream(container)
            self._seek(container, stream, start, margin_s)
            before: VideoFrame | None = None
            seen = started = False
            following = 0  # the position in `pts` of the next picture
            for _, decoded in self._decoded(container, stream):
                if decoded.pts is None:
                    raise TimestampError(f"{self.name}: a picture has no timestamp")
                if start is not None and not seen and decoded.pts > start:
                    raise _SeamError("seeking went too far")
                seen = True
                if decoded.pts < pts[0]:
                    before = decoded
                    continue
                place = int(np.searchsorted(pts, decoded.pts))
                if not started and place >= span.warm_up:
                    self._check_seam(None if span.warm_up else before, start)
                    started, before = True, None
                if place < following:
                    raise TimestampError(f"{self.name}: the pictures' timestamps do not rise")
                if place > following and not self.corrupt:
                    raise TimestampError(f"{self.name}: a packet gave no picture and is not damaged")
                if place == len(pts):
                    return
                if pts[place] != decoded.pts:
                    raise TimestampError(f"{self.name}: a picture has the timestamp of no packet")
                following = place + 1
                timestamp_s = float((decoded.pts - span.origin) * span.time_base)
                yield self._frame(decoded, span.first - span.warm_up + place, timestamp_s)
            if not started:
                self._check_seam(None if span.warm_up else before, start)

    def _seek(self, container: InputContainer, stream: VideoStream, start: int | None, margin_s: float) -> None:
        if start is None:
            return
        try:
            container.seek(start - round(margin_s / self.span.time_base), stream=stream, backward=True)
        except av.error.FFmpegError as error:
            raise _SeamError("it cannot seek") from error

    def _check_seam(self, before: VideoFrame | None, start: int | None) -> None:
        """Compares the picture before the first wanted one, which a warm-up returns itself, with its known CRC-32."""
        if before is not None:
            self._note_seam(self.span.first - 1, self._picture(before))
        if start is not None and self.span.before not in (None, self.seams.get(self.span.first - 1)):
            raise _SeamError("a picture differs from what decoding from the start gave")

    def _counted(self) -> Generator[Frame, None, None]:
        """Frames of the span, counted from the file's start, with the clock that a source of the whole file has."""
        with self._container() as container:
            stream = self._stream(container)
            clock = PictureClock(container, stream)
            for index, decoded in self._decoded(container, stream):
                timestamp_s = float(clock.tell(decoded) * clock.time_base)
                if index >= self.span.first - self.span.warm_up:
                    yield self._frame(decoded, index, timestamp_s)

    def _warn(self, text: str) -> None:
        """Does nothing: whoever planned the spans knows about the whole file."""

    def _frame(self, decoded: VideoFrame, index: int, timestamp_s: float) -> Frame:
        image = self._picture(decoded)
        self._note_seam(index, image)
        return Frame(image, index, timestamp_s, perf_counter())


class PictureSpan(SpanSource):
    """Part of a row of picture files; damaged ones are skipped."""

    kind = "images"

    def __init__(self, name: str, paths: Sequence[Path], span: Span) -> None:
        super().__init__(name, span)
        self._paths = paths
        self.fps = span.fps
        self._start()

    def _frames(self) -> Generator[Frame, None, None]:
        indices = range(self.span.first - self.span.warm_up, min(self.span.stops[-1], len(self._paths)))
        yield from read_images(self, self._paths, indices, self.span.time_base)
