"""The one resize: training, evaluation, calibration and live use all go through it."""

from functools import lru_cache

import cv2
import numpy as np

from rtseg.core.sizes import Size

_LARGEST_FACTOR = 16  # beyond it weights in 256ths are coarse


def resize_image(image: np.ndarray, size_hw: Size) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (h, w, 3): area average along axes that shrink, bilinear along those that grow."""
    height, width = size_hw
    if image.shape[:2] == (height, width):
        return image
    if image.shape == (4 * height, 4 * width, 3) and image.dtype == np.uint8:
        return _quarter(image)
    if _by_kernel(image, size_hw):
        return _shrink(image, size_hw)
    # one axis at a time where they disagree: OpenCV's INTER_AREA is no average once either grows
    shrunk = min(height, image.shape[0]), min(width, image.shape[1])
    if shrunk != image.shape[:2]:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def resize_labels(labels: np.ndarray, size_hw: Size) -> np.ndarray:
    """uint8 (H, W) -> uint8 (h, w): nearest neighbour at pixel centres, so that ids stay ids."""
    height, width = size_hw
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _by_kernel(image: np.ndarray, size_hw: Size) -> bool:
    """Whether both axes shrink by a factor that is no whole number: whole ones are quick in OpenCV."""
    factors = [large / small for large, small in zip(image.shape, size_hw, strict=False)]
    colour = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return (
        colour and all(1 < factor <= _LARGEST_FACTOR for factor in factors) and not all(map(float.is_integer, factors))
    )


def _shrink(image: np.ndarray, size_hw: Size) -> np.ndarray:
    """What cv2.INTER_AREA gives, to one level of 255, in a third of its time."""
    from rtseg.pictures._shrink_kernel import shrink  # numba: only when something is shrunk so

    out = np.empty((*size_hw, 3), np.uint8)
    scratch = np.empty(3 * image.shape[1], np.uint16)
    rows, columns = _taps(image.shape[0], size_hw[0]), _taps(image.shape[1], size_hw[1])
    shrink(np.ascontiguousarray(image), *rows, *columns, scratch, out)
    return out


@lru_cache(maxsize=16)
def _taps(large: int, small: int) -> tuple[np.ndarray, np.ndarray]:
    """How `large` values become `small` means: int32 (small,) where each begins, uint16 (small, n) weights of 256."""
    factor = large / small
    starts, weights = np.zeros(small, np.int32), np.zeros((small, int(factor) + 2), np.uint16)
    for index in range(small):
        low, high = index * factor, min((index + 1) * factor, large)
        values = np.arange(int(low), int(np.ceil(high)) + 1)
        # rounded as a running sum, so that the weights sum to 256 whatever each is
        reached = np.rint((np.clip(values, low, high) - low) / (high - low) * 256).astype(np.uint16)
        shares = np.diff(reached)
        used = np.flatnonzero(shares)
        starts[index] = values[used[0]]
        weights[index, : used.size] = shares[used[0] : used[-1] + 1]
    return starts, weights


def enlarge_labels(ids: np.ndarray, size_hw: Size, out: np.ndarray) -> np.ndarray:
    """Class ids, float32 (h, w) -> uint8 (H, W) in `out`: each pixel takes the id that is nearest to it."""
    np.copyto(out, resize_labels(ids.astype(np.uint8), size_hw))
    return out


def _quarter(image: np.ndarray) -> np.ndarray:
    """The same bytes as cv2.INTER_AREA gives, in 0.3 of its time: 1024x2048 to 256x512, 4K to 540x960."""
    from rtseg.pictures._shrink_kernel import shrink_by_four  # numba: only when something is shrunk so

    out = np.empty((image.shape[0] // 4, image.shape[1] // 4, 3), np.uint8)
    shrink_by_four(np.ascontiguousarray(image), np.empty(3 * image.shape[1], np.uint16), out)
    return out


def limit_threads(count: int) -> None:
    """Lets OpenCV use so many threads for resizing and drawing, in the whole process."""
    cv2.setNumThreads(count)
