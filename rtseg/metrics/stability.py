"""Temporal stability: how often labels flip where the picture is unchanged. Needs no truth, so any video will do.

A pixel is still if its grey value (ITU-R BT.601, 0..255) differs by less than 3 between two consecutive frames; its
label flips if it has different classes in the two frames. `flip_share` is the share of still pixels whose label flips,
over all pairs of frames: 0 is perfectly steady. Per class, it is taken over the still pixels that have this class in
the earlier frame.
"""

from typing import Any

import cv2
import numpy as np

from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.metrics.confusion import ConfusionMatrix, rounded, rounded_by_class

STILL_BELOW = 3  # grey levels


class Stability:
    """Counts flips over the frames of one video, given in order.

    Frames that are not consecutive (with a dropped or damaged one between them) or differ in size are not compared.

    Attributes:
        frames: frames seen.
        pairs: pairs of frames compared.

    Example:
        >>> stability = Stability(segmenter.labels)
        >>> for frame, labels in rtseg.stream("drive.mp4", segmenter):
        ...     stability.update(frame, labels)
        >>> stability.flip_share
    """

    def __init__(self, labels: LabelSet) -> None:
        self.frames = self.pairs = 0
        self._labels = labels
        self._changes = ConfusionMatrix(labels)  # [class before, class after] of still pixels
        self._pixels = 0
        self._index = -1
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # grey, labels

    def update(self, frame: Frame, labels: np.ndarray) -> None:
        """Adds the next frame with its labels, uint8 (H, W)."""
        grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
        if self._before is not None and frame.index == self._index + 1 and self._before[0].shape == grey.shape:
            still = cv2.absdiff(grey, self._before[0]) < STILL_BELOW
            self._changes.update(labels, np.where(still, self._before[1], np.uint8(self._labels.ignore_index)))
            self._pixels += grey.size
            self.pairs += 1
        self._before, self._index = (grey, labels.copy()), frame.index
        self.frames += 1

    @property
    def flip_share(self) -> float:
        """0..1; NaN if no pixel was still."""
        return 1 - self._changes.pixel_accuracy

    @property
    def still_share(self) -> float:
        """Share of all compared pixels that were still, 0..1; NaN if none was compared."""
        return float(self._changes.counts.sum() / self._pixels) if self._pixels else float("nan")

    @property
    def flips_by_class(self) -> np.ndarray:
        """float64 (C,) in 0..1, by the earlier class; NaN for a class without still pixels."""
        had = self._changes.counts.sum(1)
        flipped = had - np.diag(self._changes.counts)
        share: np.ndarray = np.divide(flipped, had, out=np.full(len(had), np.nan), where=had > 0)
        return share

    def to_json(self) -> dict[str, Any]:
        """JSON values for reports; None if there was nothing to count."""
        return {
            "flip_share": rounded(self.flip_share),
            "flips_by_class": rounded_by_class(self._labels, self.flips_by_class),
            "still_share": rounded(self.still_share),
            "frames": self.frames,
            "pairs": self.pairs,
        }
