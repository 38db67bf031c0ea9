"""H.264 encoding for recordings and for browsers, through PyAV (FFmpeg, x264)."""

from collections.abc import Mapping
from fractions import Fraction

import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.core.sizes import Size
from rtseg.pictures.resize import resize_image

FRAGMENTED = "empty_moov+default_base_moof"  # a head without frames, then self-contained fragments
PRESET = "superfast"
ONE_KEY_FRAME = 1 << 20  # frames until the next key frame, so practically never
MOST_TICKS = (1 << 31) - 2  # most ticks for which FFmpeg lets an MP4 show one picture
_MOST_SIDE = 16384  # most pixels on a side that x264 takes
_LIMITED, _BT601, _BT709 = 1, 6, 1  # codes of ITU-T H.273 for the result of cv2.COLOR_BGR2YUV_I420


def add_h264(
    container: OutputContainer,
    size_hw: Size,
    rate: Fraction,
    time_base: Fraction,
    key_frames: int,
    options: Mapping[str, str],
    threads: int | None = None,
) -> VideoStream:
    """Adds an H.264 stream (yuv420p, which browsers play) for pictures from `to_yuv`.

    Args:
        container: an MP4.
        size_hw: (height, width) of the pictures; the stream's are rounded up to even numbers.
        rate: nominal frames per second.
        time_base: seconds per tick.
        key_frames: most frames from one key frame to the next.
        options: options for libx264.
        threads: threads of the encoder; None: x264 chooses. The output depends on it.
    """
    stream = container.add_stream("libx264", rate=rate, options=dict(options))
    stream.height, stream.width = (side + side % 2 for side in size_hw)
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = time_base
    context.gop_size = key_frames
    context.color_range, context.colorspace = _LIMITED, _BT601
    context.color_primaries = context.color_trc = _BT709
    if threads:
        context.thread_count = threads
    return stream


def size_hint(size_hw: Size) -> str:
    """What to do about a size that is too large for H.264; empty for other sizes."""
    if max(size_hw) <= _MOST_SIDE:
        return ""
    return f"; H.264 takes up to {_MOST_SIDE} pixels a side: make the pictures smaller, or save labels alone"


def most_ticks(time_base: Fraction) -> int:
    """Most ticks of `time_base` for which an MP4 can show one picture; FFmpeg counts in 1/10000 s or less."""
    timescale = time_base.denominator
    while timescale < 10_000:
        timescale *= 2
    return int(MOST_TICKS / (time_base * timescale))


def to_yuv(picture: np.ndarray, size_hw: Size) -> VideoFrame:
    """Converts uint8 BGR (H, W, 3) to a yuv420p frame of `size_hw`; odd sides get one more column or row."""
    picture = resize_image(picture, size_hw)
    down, right = (side % 2 for side in size_hw)
    if down or right:
        picture = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_REPLICATE)
    # OpenCV converts 5x faster than swscale. `from_numpy_buffer` would save a copy, but reads the wrong rows for
    # colour if the height is not a multiple of 4.
    planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)
    return VideoFrame.from_ndarray(planes, format="yuv420p")
