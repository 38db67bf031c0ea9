"""Shows predictions beside the ground truth, in one picture."""

from collections.abc import Sequence

import numpy as np

from rtseg.core.labels import LabelSet
from rtseg.pictures.overlay import overlay


def beside_truth(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Picture, ground truth and prediction side by side: uint8 BGR (H, 3 W, 3).

    Args:
        image: uint8 BGR (H, W, 3).
        truth, predicted: uint8 (H, W); pixels without a label are not coloured.
        labels: names and colours of the classes.
    """
    return np.hstack([image, *(overlay(image, drawn, labels, opacity=0.6) for drawn in (truth, predicted))])


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks pictures of any width on top of one another."""
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
