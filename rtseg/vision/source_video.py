"""Video files and network streams, through PyAV (FFmpeg)."""

import logging
import re
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from rtseg.core.arrays import ArrayPool
from rtseg.core.errors import InputError
from rtseg.core.files import file_url
from rtseg.core.frame import Frame
from rtseg.vision.sources import Source

log = logging.getLogger(__name__)

_FAILURES_ALLOWED = 200  # failed reads without a frame between them until the rest counts as lost
_EARLY_S = 1.0  # before its stated end that a file may end: how long a last frame is shown is often made up


class VideoSource(Source):
    """A video file or URL; timestamps are the stream's own, a rotation flag is applied, damaged frames are skipped.

    A URL is live unless it has an end (a file on a web server). Any pixel format comes out as BGR, 8 bits.
    """

    kind = "video"

    def __init__(self, target: Path | str, *, timeout_s: float = 10.0, threads: int | None = None) -> None:
        """Opens a file (Path) or a URL (str) and reads the first frame; raises InputError."""
        self._is_url = isinstance(target, str)
        super().__init__(_without_password(target) if isinstance(target, str) else str(target))
        self._target = target if isinstance(target, str) else file_url(target)
        self._timeout_s = timeout_s
        self._threads = threads
        # the thread's own time-outs come first; this one also bounds a name look-up that FFmpeg cannot interrupt
        self._start(2 * timeout_s + 1 if self._is_url else None)

    def _frames(self) -> Generator[Frame, None, None]:
        with self._container() as container:
            stream = self._stream(container)
            self.frame_count = frames_told(container, stream)
            start = None
            timestamp = 0.0
            convert, arrays = VideoReformatter(), ArrayPool()
            for index, decoded in self._decoded(container, stream):
                if decoded.pts is not None and decoded.time_base is not None:
                    time = float(decoded.pts * decoded.time_base)
                    start = time if start is None else start
                    timestamp = time - start
                elif index:
                    timestamp += 1 / (self.fps or 30.0)
                bgr = convert.reformat(decoded, format="bgr24", threads=self._threads)
                yield Frame(upright(copied(bgr, arrays), decoded), index, timestamp, perf_counter())

    def _container(self) -> InputContainer:
        options: dict[str, str] = {}
        if self._target.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # a lost UDP packet would smear the picture for seconds
        timeout = (self._timeout_s, self._timeout_s) if self._is_url else None
        start = perf_counter()
        try:
            return av.open(self._target, mode="r", options=options, metadata_errors="replace", timeout=timeout)
        except (av.error.FFmpegError, OSError) as error:
            # an RTSP client that is interrupted speaks of invalid data: only the clock tells
            if self._is_url and perf_counter() - start >= self._timeout_s:
                raise InputError(
                    f"{self.name} did not answer within {self._timeout_s:g} s: check the address and the network"
                ) from None
            hint = "check the address and that the server runs" if self._is_url else "damaged, cut short or no video"
            raise InputError(f"cannot open {self.name}: {reason_of(error)}; {hint}") from error

    def _stream(self, container: InputContainer) -> VideoStream:
        """The first moving picture; also fills in what the container knows about it."""
        if not container.streams.video:
            raise InputError(f"{self.name} holds no video stream: it is sound only, damaged or cut short")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise InputError(f"{self.name}: this build of FFmpeg has no decoder for its video")
        self.live = self._is_url and container.duration is None
        # frame threads hold back as many frames as there are threads, which a live picture cannot afford
        stream.thread_type = "SLICE" if self.live else "AUTO"
        if self._threads:
            stream.codec_context.thread_count = self._threads
        rate: Fraction | None = stream.average_rate or stream.guessed_rate
        # a container that counts in milliseconds and says no rate announces a thousand frames per second
        self.fps = float(rate) if rate and 0.01 <= rate < 1000 else None
        return stream

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[int, VideoFrame]]:
        """Yields (index, frame), counts what cannot be decoded, and reads on after damaged stretches."""
        index = failures = end = 0
        while True:
            try:
                for packet in container.demux(stream):
                    if packet.pts is not None:
                        end = max(end, packet.pts + (packet.duration or 0))
                    try:
                        frames = packet.decode()
                    except av.error.EOFError:
                        continue
                    except av.error.FFmpegError as error:
                        log.debug("%s: packet skipped: %s", self.name, error)
                        self.corrupt, index = self.corrupt + 1, index + 1
                        continue
                    for frame in frames:
                        if frame.is_corrupt:
                            self.corrupt += 1
                        else:
                            failures = 0
                            yield index, frame
                        index += 1
                self._note_end(index, self.frame_count or frames_by_duration(container, stream, index, end))
                return
            except av.error.ExitError:
                raise InputError(
                    f"{self.name} sent nothing for {self._timeout_s:g} s: the stream has stopped"
                ) from None
            except av.error.FFmpegError as error:
                self.corrupt, failures = self.corrupt + 1, failures + 1
                if is_unreadable(error) or (self._is_url and isinstance(error, OSError)):
                    hint = "start again" if self._is_url else "check the disk or the network drive"
                    raise InputError(f"{self.name} broke off: {reason_of(error)}; {hint}") from error
                if failures > _FAILURES_ALLOWED:
                    log.warning("%s: the rest cannot be read: %s", self.name, reason_of(error))
                    return

    def _note_end(self, frames: int, told: int | None) -> None:
        if told and frames < told:
            log.warning("%s ended after %d of %d frames: it is cut short", self.name, frames, told)


def frames_told(container: InputContainer, stream: VideoStream) -> int | None:
    """How many frames a container says that it shows; None: it does not say."""
    if stream.frames and "mp4" in container.format.name:  # an edit list hides samples, the index knows which
        return sum(not entry.is_discard for entry in stream.index_entries) or stream.frames
    return stream.frames or None


def frames_by_duration(container: InputContainer, stream: VideoStream, found: int, end: int) -> int | None:
    """About how many frames a file was to hold that states a duration and ends long before it, at `end` ticks.

    None where nothing is missing, and where it cannot be told: MPEG-TS and others have their duration estimated from
    the end of the very file, and one that is stated for pictures and sound together may be that of the sound.
    """
    if not container.duration or not container.format.name.startswith(("matroska", "flv")):
        return None
    told_s, end_s = container.duration / av.time_base, float(end * (stream.time_base or 0))
    own = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    if own:
        told_s = min(told_s, int(own[1]) * 3600 + int(own[2]) * 60 + float(own[3]))
    elif len(container.streams) > 1:
        return None
    return round(found * told_s / end_s) if 0 < end_s < told_s - _EARLY_S else None


def is_unreadable(error: av.error.FFmpegError) -> bool:
    """Whether a disk or network gave nothing, rather than something damaged, which need not be the last word."""
    # some demuxers say -1 (EPERM) or "try again" of damage
    return isinstance(error, OSError) and not isinstance(error, PermissionError | BlockingIOError)


def copied(frame: VideoFrame, arrays: ArrayPool) -> np.ndarray:
    """The pixels of a bgr24 frame, uint8 (H, W, 3); FFmpeg's own memory has padded rows and is its to reuse."""
    image = arrays.take((frame.height, frame.width, 3))
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    np.copyto(image.reshape(frame.height, -1), rows[: frame.height, : 3 * frame.width])
    return image


def upright(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Applies the display matrix, which maps a stored pixel (x, y) to (a x + c y, b x + d y), in right angles."""
    # `frame.side_data` is a reference cycle: hundreds of pictures would live until Python's collector finds them
    side_data: Any = SideDataContainer(frame)  # type: ignore[call-arg]  # missing in the stub
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image = cv2.transpose(image)
        a, d = c, b
    if a < 0:
        image = cv2.flip(image, 1)
    return cv2.flip(image, 0) if d < 0 else image


def reason_of(error: Exception) -> str:
    """FFmpeg's words."""
    return str(getattr(error, "strerror", None) or error).strip()


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"{url} is no URL: {error}; check the address") from None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
