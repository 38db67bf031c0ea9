"""H.264 recordings through PyAV (FFmpeg, x264), playable whatever happens."""

import math
import os
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.core.errors import OutputError, UsageError
from rtseg.core.files import check_place, file_url, is_full
from rtseg.core.frame import Frame
from rtseg.core.sizes import Size, format_size
from rtseg.sinks.base import Sink, check_name, make_folder
from rtseg.sinks.h264 import FRAGMENTED, ONE_KEY_FRAME, PRESET, add_h264, most_ticks, size_hint, to_yuv
from rtseg.sinks.lock import Lock

NOMINAL_FPS = 30.0  # if the source does not say; the frames' timestamps decide how they play


def exact_rate(fps: float) -> Fraction:
    """29.97 -> 30000/1001: NTSC rates exactly, others as the nearest fraction that MP4 can hold.

    Raises:
        UsageError: not a finite rate between 0 and 1000.
    """
    if not (math.isfinite(fps) and 0 < fps < 1000):
        raise UsageError(f"{fps} is not a frame rate: give frames per second above 0 and below 1000")
    if fps < 1:  # frames that last for seconds or hours
        return 1 / max(Fraction(1), Fraction(1 / fps).limit_denominator(1001))
    ntsc = Fraction(round(fps) * 1000, 1001)
    is_ntsc = round(fps) % 6 == 0 and abs(float(ntsc) - fps) < 0.005  # 23.976, 29.97, 47.95, 59.94, 119.88
    return ntsc if is_ntsc else Fraction(fps).limit_denominator(1001)


def partial_path(path: Path) -> Path:
    """The name of a recording while it is written."""
    return path.with_name(f"{path.stem}.partial.mp4")


def reason_of_write(error: BaseException) -> str:
    """Why something could not be written, for people to read."""
    return "the disk is full" if is_full(error) else str(getattr(error, "strerror", None) or error)


class VideoSink(Sink):
    """Writes pictures to an MP4 (H.264, yuv420p) that browsers play, with the frames' own timestamps.

    The file is fragmented, one fragment per second, so everything written before a crash, a kill or a full disk can be
    played. While it is written, it is called `NAME.partial.mp4` and replaces an older file of that name; `close`
    renames it. After a failure, or with `close(complete=False)`, it keeps the partial name.

    A `joinable` recording is part of a longer one, joined without re-encoding: a plain MP4 with one closed group of
    pictures and no B frames, so that pictures are stored in display order.

    Attributes:
        padded: the width or height is odd and got one repeated column or row, since yuv420p needs even sizes.
        partial_path: its name while it is written.
        saved: it has its final name.
    """

    def __init__(
        self,
        path: Path,
        size_hw: Size,
        fps: float,
        *,
        crf: int = 23,
        preset: str = PRESET,
        threads: int | None = None,
        time_base: Fraction | None = None,
        joinable: bool = False,
        pixel_aspect: Fraction | None = None,
    ) -> None:
        """Starts a recording.

        Args:
            path: ends in .mp4; `close` replaces an older file there.
            size_hw: (height, width) of the pictures.
            fps: nominal rate; timestamps decide when a frame is shown.
            crf: x264's constant quality, 0 (lossless) to 51.
            preset: x264's effort, ultrafast … veryslow; veryfast takes twice the time of superfast for files two thirds
                as large.
            threads: threads of the encoder; None: x264 chooses. The file depends on it.
            time_base: seconds per tick; timestamps in whole ticks stay exact. None: fine enough for any.
            joinable: make a part of a longer recording.
            pixel_aspect: width of a pixel divided by its height, if pixels are not square.

        Raises:
            OutputError: the file cannot be created there, or another process is recording to it.
            UsageError: `fps` is not a frame rate.
        """
        check_place(path)
        if path.suffix.lower() != ".mp4":
            raise OutputError(f"cannot record to {path}: recordings are MP4, name it {path.with_suffix('.mp4')}")
        self.path = path
        self.partial_path = partial_path(path)
        check_name(self.partial_path)
        self.saved = False
        self.padded = bool(size_hw[0] % 2 or size_hw[1] % 2)
        self._size_hw = size_hw
        self._rate = exact_rate(fps)
        self._joinable = joinable
        # ticks fine enough for any timestamp, and a whole number of them per nominal frame
        ticks = self._rate.numerator * math.ceil(10_000 / self._rate.numerator)
        self._time_base = time_base or Fraction(1, ticks)
        self._start_s: float | None = None
        self._last_pts = -1
        # B frames are written earlier than shown, by the duration of several pictures
        self._most_ticks = most_ticks(self._time_base) // (1 if joinable else 8)
        self._shown: VideoFrame | None = None
        self._failed = False
        make_folder(path.parent)
        self._lock: Lock | None = None
        if not joinable:  # a batch keeps its parts in a folder of its own
            busy = f"cannot record to {path}: another rtseg is recording to it; name another file"
            self._lock = Lock(path.with_name(f".{path.name}.lock"), busy)
        options = {"preset": preset, "crf": str(crf)}
        if joinable:
            options |= {"bf": "0", "sc_threshold": "0"}
        try:
            self._container: OutputContainer | None = self._open()
            self._stream = self._add_stream(self._container, options, threads, pixel_aspect)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.partial_path.unlink(missing_ok=True)
            self._free()
            raise self._error(error) from error

    def _free(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _open(self) -> OutputContainer:
        # the head waits for the first fragment: it then says by how much pictures are moved to make room for B frames,
        # which is as long as the first three last, be it hours
        options = {"movflags": f"frag_keyframe+delay_moov+{FRAGMENTED}", "flush_packets": "1"}
        if self._joinable:
            options = {}
        return av.open(file_url(self.partial_path), mode="w", format="mp4", container_options=options)

    def _add_stream(
        self, container: OutputContainer, options: dict[str, str], threads: int | None, pixel_aspect: Fraction | None
    ) -> VideoStream:
        # one key frame, and so one fragment, per second; or only one in all
        key_frames = ONE_KEY_FRAME if self._joinable else max(1, round(self._rate))
        stream = add_h264(container, self._size_hw, self._rate, self._time_base, key_frames, options, threads)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        return stream

    def write(self, frame: Frame, labels: np.ndarray, picture: np.ndarray) -> None:
        """Encodes `picture`; if its size differs from the recording's, it is scaled."""
        if self._container is None:
            raise OutputError(f"{self.path} is closed: nothing can be written any more")
        try:
            yuv = self._to_yuv(picture, frame.timestamp_s)
            self._bridge(yuv)
            self._encode(yuv)
        except (av.error.FFmpegError, OSError) as error:
            self._failed = True
            raise self._error(error) from error
        self.frames += 1

    def _to_yuv(self, picture: np.ndarray, timestamp_s: float) -> VideoFrame:
        yuv = to_yuv(picture, self._size_hw)
        self._start_s = timestamp_s if self._start_s is None else self._start_s
        yuv.pts = max(self._last_pts + 1, round((timestamp_s - self._start_s) / float(self._time_base)))
        yuv.time_base = self._time_base
        yuv.duration = max(1, round(1 / (self._rate * self._time_base)))
        return yuv

    def _bridge(self, following: VideoFrame) -> None:
        """Repeats the last picture if the next one comes so late that MP4 cannot hold the gap.

        A joinable part needs no more pictures, since joining changes its times.
        """
        if self._joinable:
            following.pts = min(following.pts or 0, self._last_pts + self._most_ticks)
        while self._shown is not None and (following.pts or 0) > self._last_pts + self._most_ticks:
            self._last_pts += self._most_ticks
            self._shown.pts = self._last_pts
            self._encode(self._shown)
        self._shown, self._last_pts = following, following.pts or 0

    def _encode(self, frame: VideoFrame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self, complete: bool = True) -> None:
        try:
            self._end(complete)
        finally:
            self._free()

    def _end(self, complete: bool) -> None:
        if self._container is None:
            return
        error: Exception | None = None
        try:
            try:
                if self.frames and not self._failed:
                    self._encode(None)  # flushes the frames that x264 still holds
            finally:
                self._container.close()
        except (av.error.FFmpegError, OSError) as caught:
            error = caught
        self._container = None
        if self._failed:
            return  # `write` has already raised it
        if error is not None:
            raise self._error(error) from error
        if not self.frames:
            self.partial_path.unlink(missing_ok=True)
        elif complete:
            self._rename()

    def _rename(self) -> None:
        try:
            os.replace(self.partial_path, self.path)
            self.saved = True
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> OutputError:
        hint = size_hint(self._size_hw)
        text = f"cannot record {self.path} at {format_size(self._size_hw)}: {reason_of_write(error)}{hint}"
        if self.frames and self.partial_path.exists():
            text += f"; what was written until then is in {self.partial_path}"
        return OutputError(text)
