"""How sure a network is of each pixel."""

import cv2
import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.sizes import Size


def confidence(logits: np.ndarray, size_hw: Size) -> np.ndarray:
    """float32 (C, h, w) -> float32 (H, W): the softmax of the best class, 1/C to 1, of logits interpolated bilinearly.

    One class at a time, so that no array of all classes at full size is made.

    Raises:
        UsageError: not float32 (C, h, w).
    """
    if logits.dtype != np.float32 or logits.ndim != 3 or 0 in logits.shape:
        raise UsageError(f"logits must be float32 (classes, height, width), not {logits.dtype} {logits.shape}")
    best = _full(logits[0], size_hw)
    for coarse in logits[1:]:
        np.maximum(best, _full(coarse, size_hw), out=best)
    total = np.zeros(size_hw, np.float32)
    for coarse in logits:
        total += np.exp(_full(coarse, size_hw) - best)
    return np.reciprocal(total, out=total)


def _full(coarse: np.ndarray, size_hw: Size) -> np.ndarray:
    full: np.ndarray = cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return full
