"""How sure a network is of each pixel."""

import os

import cv2
import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.sizes import Size
from rtseg.pictures.upsample import corners_of_axis, in_bands


def confidence(
    logits: np.ndarray, size_hw: Size, temperature: float = 1.0, *, threads: int | None = None
) -> np.ndarray:
    """float32 (C, h, w) -> float32 (H, W): the best class's probability, 1/C to 1.

    Interpolates the logits z bilinearly and returns max_c softmax(z / T)_c with the temperature T (Guo et al. 2017, "On
    Calibration of Modern Neural Networks"). There is never an array of all classes at full size.

    Args:
        logits: class scores on the network's output grid, finite.
        size_hw: height and width of the result.
        temperature: above 1 for an overconfident network.
        threads: threads that may work at the same time, the caller's included; default: one per core.

    Raises:
        UsageError: not float32 (C, h, w).
    """
    if logits.dtype != np.float32 or logits.ndim != 3 or 0 in logits.shape:
        raise UsageError(f"logits must be float32 (classes, height, width), not {logits.dtype} {logits.shape}")
    from rtseg.pictures._confidence_kernel import fill_confidence  # loads numba, so only when needed

    scaled = np.ascontiguousarray(logits / np.float32(temperature))
    rows, columns = (corners_of_axis(coarse, full) for coarse, full in zip(logits.shape[1:], size_hw, strict=True))
    out = np.empty(size_hw, np.float32)
    in_bands(
        size_hw[0],
        threads or os.cpu_count() or 1,
        lambda first, last: fill_confidence(scaled, *rows, *columns, first, last, out),
    )
    return out


def as_levels(confidence: np.ndarray) -> np.ndarray:
    """float32 (H, W), 0 to 1 -> uint8 (H, W), 0 to 255, rounded; this is what is saved and drawn."""
    levels: np.ndarray = cv2.convertScaleAbs(confidence, alpha=255)
    return levels
