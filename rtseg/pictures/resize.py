"""The only resize: training, evaluation, calibration and live use all go through it."""

from functools import lru_cache

import cv2
import numpy as np

from rtseg.core.sizes import Size

_LARGEST_FACTOR = 16  # beyond it, weights in 256ths are too coarse


def resize_image(image: np.ndarray, size_hw: Size) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (h, w, 3): area average along axes that shrink, bilinear along axes that grow."""
    height, width = size_hw
    if image.shape[:2] == (height, width):
        return image
    if image.shape == (4 * height, 4 * width, 3) and image.dtype == np.uint8:
        return _quarter(image)
    if _by_kernel(image, size_hw):
        return _shrink(image, size_hw)
    # if one axis shrinks and one grows, one at a time: INTER_AREA does not average if either grows
    shrunk = min(height, image.shape[0]), min(width, image.shape[1])
    if shrunk != image.shape[:2]:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def resize_labels(labels: np.ndarray, size_hw: Size) -> np.ndarray:
    """uint8 (H, W) -> uint8 (h, w): nearest neighbour at pixel centres, so ids stay ids."""
    height, width = size_hw
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _by_kernel(image: np.ndarray, size_hw: Size) -> bool:
    """Whether both axes shrink by a factor that is not an integer; OpenCV is fast for integers."""
    factors = [large / small for large, small in zip(image.shape, size_hw, strict=False)]
    colour = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return (
        colour and all(1 < factor <= _LARGEST_FACTOR for factor in factors) and not all(map(float.is_integer, factors))
    )


def _shrink(image: np.ndarray, size_hw: Size) -> np.ndarray:
    """The result of cv2.INTER_AREA, to one level of 255, in a third of its time."""
    from rtseg.pictures._shrink_kernel import shrink  # loads numba, so only when needed

    out = np.empty((*size_hw, 3), np.uint8)
    scratch = np.empty(3 * image.shape[1], np.uint16)
    rows, columns = _taps(image.shape[0], size_hw[0]), _taps(image.shape[1], size_hw[1])
    shrink(np.ascontiguousarray(image), *rows, *columns, scratch, out)
    return out


@lru_cache(maxsize=16)
def _taps(large: int, small: int) -> tuple[np.ndarray, np.ndarray]:
    """How `large` values become `small` means: int32 (small,) first index, uint16 (small, n) weights in 256ths."""
    factor = large / small
    starts, weights = np.zeros(small, np.int32), np.zeros((small, int(factor) + 2), np.uint16)
    for index in range(small):
        low, high = index * factor, min((index + 1) * factor, large)
        values = np.arange(int(low), int(np.ceil(high)) + 1)
        # round the running sum, so that the weights always sum to 256
        reached = np.rint((np.clip(values, low, high) - low) / (high - low) * 256).astype(np.uint16)
        shares = np.diff(reached)
        used = np.flatnonzero(shares)
        starts[index] = values[used[0]]
        weights[index, : used.size] = shares[used[0] : used[-1] + 1]
    return starts, weights


def enlarge_labels(ids: np.ndarray, size_hw: Size, out: np.ndarray) -> np.ndarray:
    """Class ids, float32 (h, w) -> uint8 (H, W) in `out`: each pixel takes the nearest id."""
    np.copyto(out, resize_labels(ids.astype(np.uint8), size_hw))
    return out


def _quarter(image: np.ndarray) -> np.ndarray:
    """The same bytes as cv2.INTER_AREA in 0.3 of its time: 1024x2048 to 256x512, 4K to 540x960."""
    from rtseg.pictures._shrink_kernel import shrink_by_four  # loads numba, so only when needed

    out = np.empty((image.shape[0] // 4, image.shape[1] // 4, 3), np.uint8)
    shrink_by_four(np.ascontiguousarray(image), np.empty(3 * image.shape[1], np.uint16), out)
    return out


def limit_threads(count: int) -> None:
    """Sets how many threads OpenCV uses for resizing and drawing, for the whole process."""
    cv2.setNumThreads(count)
