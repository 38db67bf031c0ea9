"""A picture on its way through the loop, and the result for it."""

from dataclasses import dataclass

import numpy as np

from rtseg.core.errors import UsageError


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        image: uint8 BGR (H, W, 3), C-contiguous, owned by this frame.
        index: 0-based position in the source, counting frames that were dropped or corrupt.
        timestamp_s: presentation time in the source's own clock; 0 for its first frame.
        captured_at: `time.perf_counter()` when the camera or decoder delivered the picture.
        truth: uint8 (H, W) labels if the source knows them (street scenes), else None.
    """

    image: np.ndarray
    index: int
    timestamp_s: float
    captured_at: float
    truth: np.ndarray | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


def picture_of(frame: np.ndarray | Frame) -> np.ndarray:
    """A frame's picture, uint8 BGR (H, W, 3), or the array itself if it is one; UsageError for anything else."""
    image = frame.image if isinstance(frame, Frame) else frame
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        raise UsageError(f"a frame must be an array, uint8 BGR (H, W, 3), not {kind}: rtseg.open_source reads files")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"a frame must be uint8 BGR (H, W, 3), not {image.dtype} {image.shape}")
    return image


@dataclass(frozen=True, slots=True)
class Labelled:
    """The result for a frame.

    Attributes:
        labels: uint8 (H, W), the class of every pixel; nobody else holds the array.
        stages_s: stage -> seconds that the frame spent in it.
        confidence: uint8 (H, W), 0 to 255, how sure the network is of each pixel; None if it was not measured.
        exit: the exit of the network that made the labels; '' if the network has no early exits.
        rung: which of several networks and sizes made the labels; '' if there is only one, or no labels yet.
        held: these are the labels of an earlier frame, because this frame's were not ready in time.
    """

    labels: np.ndarray
    stages_s: dict[str, float]
    confidence: np.ndarray | None = None
    exit: str = ""
    rung: str = ""
    held: bool = False
