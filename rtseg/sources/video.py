"""Video files and network streams, through PyAV (FFmpeg)."""

import logging
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.core.addresses import HINT, is_badly_written, without_password
from rtseg.core.errors import InputError
from rtseg.core.files import file_url
from rtseg.core.frame import Frame
from rtseg.sources.base import Source
from rtseg.sources.clock import PictureClock
from rtseg.sources.containers import (
    frames_told,
    has_size,
    moving_streams,
    nominal_rate,
    open_media,
    reason_of,
    shown_aspect,
    stream_notes,
    video_stream,
)
from rtseg.sources.decoder import Decoder, NoPicturesError
from rtseg.sources.hdr import hdr_note
from rtseg.sources.pixels import ToBgr
from rtseg.sources.scrambled import check_live

log = logging.getLogger(__name__)


class VideoSource(Source):
    """A video file or URL. Timestamps are the stream's own, rotation is applied, and damaged frames are skipped.

    A URL is live unless it has an end (a file on a web server). All pixel formats become BGR, 8 bits.
    """

    kind = "video"

    def __init__(self, target: Path | str, *, timeout_s: float = 10.0, threads: int | None = None) -> None:
        """Opens a file (Path) or a URL (str) and reads the first frame; raises InputError."""
        self._is_url = isinstance(target, str)
        super().__init__(without_password(target) if isinstance(target, str) else str(target))
        if self._is_url:
            try:
                urlsplit(self.name)
            except ValueError as error:
                raise InputError(f"{self.name} is not a URL: {error}; check the address") from None
        self._target = target if isinstance(target, str) else file_url(target)
        self._timeout_s = timeout_s
        self._threads = threads
        self._hdr: str | None = None
        self._looked = self._began = False
        self._pids: Collection[int] = ()
        # the thread's own time-outs end earlier; this one also limits a name look-up, which FFmpeg cannot interrupt
        self._start(2 * timeout_s + 1 if self._is_url else None)

    def _frames(self) -> Generator[Frame, None, None]:
        try:
            yield from self._shown()
        except NoPicturesError:
            self._check_clear(self._pids)
            raise
        except InputError:
            if self._is_url and not self._began:
                self._check_clear()
            raise

    def _shown(self) -> Generator[Frame, None, None]:
        with self._container() as container:
            stream = self._stream(container)
            self.frame_count = frames_told(container, stream)
            self.notes = stream_notes(container, stream)
            clock, to_bgr = PictureClock(container, stream, self.live), ToBgr(self._threads)
            if clock.invented:
                self.fps = None
            for index, decoded in self._decoded(container, stream):
                timestamp_s = float(clock.tell(decoded) * clock.time_base)
                image = to_bgr(decoded)
                self.pixel_aspect = shown_aspect(stream, image)
                if not self._hdr and (note := hdr_note(decoded.color_trc)):
                    self._hdr = note
                    self.notes.append(note)
                self._began = True
                yield Frame(image, index, timestamp_s, perf_counter())

    def _container(self) -> InputContainer:
        container = self._opened()
        moving = moving_streams(container)
        if self._is_url and not any(map(has_size, moving)):
            pids = {stream.id for stream in moving}
            container.close()  # a server may accept only one client
            self._check_clear(pids)
            container = self._opened()  # it was opened in the middle of a long group of pictures, so try again
        return container

    def _check_clear(self, pids: Collection[int] = ()) -> None:
        """Checks once whether a stream that sends no pictures is scrambled."""
        looked, self._looked = self._looked, True
        if not looked:
            check_live(self._target, self.name, self._timeout_s, pids)

    def _opened(self) -> InputContainer:
        options: dict[str, str] = {}
        if self._target.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # a lost UDP packet would smear the picture for seconds
        timeout = (self._timeout_s, self._timeout_s) if self._is_url else None
        start = perf_counter()
        try:
            return open_media(self._target, options, timeout)
        except (av.error.FFmpegError, OSError) as error:
            # an interrupted RTSP client reports invalid data, so only the clock shows a time-out
            if self._is_url and perf_counter() - start >= self._timeout_s:
                raise InputError(
                    f"{self.name} did not answer within {self._timeout_s:g} s: check the address and the network"
                ) from None
            hint = "check the address and that the server runs" if self._is_url else "damaged, cut short or no video"
            if self._is_url and is_badly_written(self._target):
                hint = HINT
            raise InputError(f"cannot open {self.name}: {reason_of(error)}; {hint}") from error

    def _stream(self, container: InputContainer) -> VideoStream:
        """The video stream; also reads what the container says about it."""
        stream = video_stream(container, self.name)
        self._pids = (stream.id,)
        if stream.codec_context is None:
            raise InputError(f"{self.name}: this build of FFmpeg has no decoder for its video")
        self.live = self._is_url and container.duration is None
        # frame threads delay the picture by as many frames as there are threads, too much for a live source
        stream.thread_type = "SLICE" if self.live else "AUTO"
        if self._threads:
            stream.codec_context.thread_count = self._threads
        self.fps = nominal_rate(stream)
        return stream

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[int, VideoFrame]]:
        """Yields (index, frame), counts what cannot be decoded, and continues after damaged parts."""
        decoder = Decoder(container, stream, self.name, url=self._is_url, live=self.live, timeout_s=self._timeout_s)
        before, index, restarts = self.corrupt, -1, 0
        try:
            for index, frame in decoder.pictures():
                self.corrupt = before + decoder.corrupt
                if decoder.restarts > restarts:
                    restarts = decoder.restarts
                    self._warn("restarts its clock: pictures continue where they were")
                yield index, frame
        finally:
            self.corrupt = before + decoder.corrupt
        if decoder.told:
            self._warn(f"ended after {index + 1} of {decoder.told} frames: it is cut short")

    def _warn(self, text: str) -> None:
        log.warning("%s %s", self.name, text)
