"""Converts FFmpeg's decoded pictures to upright BGR."""

from typing import Any

import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from rtseg.core.arrays import ArrayPool
from rtseg.sources.hdr import to_sdr


class ToBgr:
    """Converts decoded pictures of any pixel format to uint8 BGR (H, W, 3), as they should be shown.

    Args:
        threads: threads for the conversion; None: FFmpeg chooses.
    """

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._convert, self._arrays = VideoReformatter(), ArrayPool()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        bgr = self._convert.reformat(frame, format="bgr24", threads=self._threads)
        image = to_sdr(_copied(bgr, self._arrays), frame.color_trc, frame.color_primaries)
        return upright(image, frame)


def _copied(frame: VideoFrame, arrays: ArrayPool) -> np.ndarray:
    """The pixels of a bgr24 frame, uint8 (H, W, 3), as a copy: FFmpeg's memory has padded rows and is reused."""
    image = arrays.take((frame.height, frame.width, 3))
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    np.copyto(image.reshape(frame.height, -1), rows[: frame.height, : 3 * frame.width])
    return image


def upright(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Applies the display matrix, which maps a stored pixel (x, y) to (a x + c y, b x + d y), in quarter turns."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image = cv2.transpose(image)
        a, d = c, b
    if a < 0:
        image = cv2.flip(image, 1)
    return cv2.flip(image, 0) if d < 0 else image


def _display_matrix(frame: VideoFrame) -> bytes | None:
    # `frame.side_data` makes a reference cycle: hundreds of pictures would stay until garbage collection
    side_data: Any = SideDataContainer(frame)  # type: ignore[call-arg]  # missing in the stub
    matrix = side_data.get("DISPLAYMATRIX")
    return None if matrix is None else bytes(matrix)


def _unknown_kind(kind: type[SideDataType], value: int) -> SideDataType:
    """A member for a kind of side data that FFmpeg knows but PyAV does not (EXIF, view number, LCEVC)."""
    member = object.__new__(kind)
    member._name_ = f"UNKNOWN_{value}"
    member._value_ = value  # type: ignore[assignment]  # the stub confuses members with values
    return member


# PyAV looks up every piece of side data in this enum and raises ValueError for each kind that is missing from it, even
# if nobody uses that piece
SideDataType._missing_ = classmethod(_unknown_kind)  # type: ignore[assignment,method-assign]
