"""Labels from several logits of one picture: the class with the highest mean probability."""

from collections.abc import Sequence

import numpy as np

from rtseg.core.sizes import Size

_BAND_PIXELS = 1 << 16  # full-size probabilities exist only for one band of rows at a time


def average_labels(views: Sequence[np.ndarray], size_hw: Size) -> np.ndarray:
    """Logits float32 (C, h, w), of any sizes -> labels uint8 (H, W).

    Each view is interpolated to the full size (bilinear, `align_corners=False`, edges clamped), then softmax turns it
    into probabilities; ties go to the lowest class.
    """
    height, width = size_hw
    labels = np.empty(size_hw, np.uint8)
    band = max(1, _BAND_PIXELS // width)
    for top in range(0, height, band):
        rows = slice(top, min(top + band, height))
        total = _probabilities(views[0], size_hw, rows)
        for view in views[1:]:
            total += _probabilities(view, size_hw, rows)
        labels[rows] = total.argmax(0)
    return labels


def _probabilities(logits: np.ndarray, size_hw: Size, rows: slice) -> np.ndarray:
    """float32 (C, h, w) -> float32 (C, rows, W)."""
    (top, bottom, down), (left, right, across) = (
        _corners(coarse, full) for coarse, full in zip(logits.shape[1:], size_hw, strict=True)
    )
    down = down[rows, None]
    band = logits[:, top[rows]] * (1 - down) + logits[:, bottom[rows]] * down  # (C, rows, w)
    values: np.ndarray = band[..., left] * (1 - across) + band[..., right] * across  # (C, rows, W)
    values -= values.max(0)
    np.exp(values, out=values)
    values /= values.sum(0)
    return values


def _corners(coarse: int, full: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every pixel of an axis, the two coarse samples around it and its distance from the first."""
    place = np.maximum((np.arange(full) + 0.5) * coarse / full - 0.5, 0)
    low = place.astype(np.int64)
    return low, np.minimum(low + 1, coarse - 1), (place - low).astype(np.float32)
