"""Frames and pictures for the tests of sinks."""

import numpy as np

from rtseg.core.frame import Frame
from rtseg.sinks.base import Sink

RED = (0, 0, 220)


def a_frame(index: int = 0, timestamp_s: float = 0.0, size_hw: tuple[int, int] = (48, 64)) -> Frame:
    return Frame(np.zeros((*size_hw, 3), np.uint8), index, timestamp_s, 0.0)


def a_picture(size_hw: tuple[int, int] = (48, 64), colour: tuple[int, int, int] = RED) -> np.ndarray:
    return np.full((*size_hw, 3), colour, np.uint8)


def record(sink: Sink, times_s: list[float], size_hw: tuple[int, int] = (48, 64)) -> None:
    labels = np.zeros(size_hw, np.uint8)
    for index, time_s in enumerate(times_s):
        sink.write(a_frame(index, time_s, size_hw), labels, a_picture(size_hw))
