"""Writes label maps as a lossless video."""

import os
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame

from rtseg.core.errors import OutputError
from rtseg.core.files import file_url
from rtseg.core.frame import Frame
from rtseg.core.sizes import Size
from rtseg.sinks.base import Sink, make_folder
from rtseg.sinks.video import exact_rate, reason_of_write


class LabelVideoSink(Sink):
    """Writes label maps to a Matroska video (FFV1, 8-bit grey): each decoded pixel is a class id.

    Matroska counts in milliseconds, so a map's position in the file is exact but its time is rounded. Until `close`,
    the file is called `NAME.partial.mkv`.
    """

    def __init__(self, path: Path, size_hw: Size, fps: float, time_base: Fraction) -> None:
        """Starts a video; raises OutputError if the file cannot be created."""
        make_folder(path.parent)
        self.path = path
        self._part = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._size_hw = size_hw
        self._time_base = time_base
        self._start_s: float | None = None
        try:
            self._container = av.open(file_url(self._part), "w", format="matroska")
            options = {"level": "3", "slices": "1"} if size_hw[1] == 1 else {"level": "3"}  # four do not fit a column
            self._stream = self._container.add_stream("ffv1", rate=exact_rate(fps), options=options)
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"cannot write {path}: {reason_of_write(error)}") from error
        self._stream.height, self._stream.width = size_hw
        self._stream.pix_fmt = "gray"
        context = self._stream.codec_context
        context.time_base = time_base
        context.gop_size = context.thread_count = 1  # every map is a key frame
        self._open = True

    def write(self, frame: Frame, labels: np.ndarray, picture: np.ndarray) -> None:
        """Encodes `labels`; if their size changes during the video, they are resized by nearest neighbour."""
        if labels.shape != self._size_hw:
            labels = cv2.resize(labels, self._size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        self._start_s = frame.timestamp_s if self._start_s is None else self._start_s
        grey = VideoFrame.from_ndarray(labels, format="gray")
        grey.pts = round((frame.timestamp_s - self._start_s) / float(self._time_base))
        grey.time_base = self._time_base
        self._encode(grey)
        self.frames += 1

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"cannot write {self.path}: {reason_of_write(error)}") from error

    def close(self, complete: bool = True) -> None:
        if not self._open:
            return
        self._open = False
        try:
            if complete:
                self._encode(None)
        finally:
            try:
                self._container.close()
            except (av.error.FFmpegError, OSError) as error:
                raise OutputError(f"cannot write {self.path}: {reason_of_write(error)}") from error
        if complete:
            os.replace(self._part, self.path)
