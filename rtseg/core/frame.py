"""One picture on its way through the loop, and what a network makes of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        image: uint8 BGR (H, W, 3), C-contiguous, owned by this frame.
        index: 0-based position in the source, counting frames that were dropped or corrupt.
        timestamp_s: presentation time in the source's own clock; 0 for its first frame.
        captured_at: `time.perf_counter()` when the picture was handed over by the camera or decoder.
        truth: uint8 (H, W) labels where the source knows them (street scenes), else None.
    """

    image: np.ndarray
    index: int
    timestamp_s: float
    captured_at: float
    truth: np.ndarray | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True)
class Labelled:
    """What became of a frame.

    Attributes:
        labels: uint8 (H, W), the class of every pixel; nobody else holds the array.
        stages_s: stage -> seconds that the frame spent in it.
        confidence: uint8 (H, W), 0 to 255, how sure the network is of each pixel; None where it was not measured.
        exit: the exit of the network that gave the labels; '' for a network that has only one.
        rung: which of several networks and sizes made the labels; '' where there is one only, or there are none yet.
        held: the labels are those of an earlier frame, since this one's were not ready in time.
    """

    labels: np.ndarray
    stages_s: dict[str, float]
    confidence: np.ndarray | None = None
    exit: str = ""
    rung: str = ""
    held: bool = False
