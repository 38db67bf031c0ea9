"""Where a picture has changed: compares block means of two frames; means average a camera's noise away."""

import cv2
import numpy as np

BESIDE = 0.5  # of a neighbour's change, since what enters a block matters beside it first

_NEIGHBOURS = np.ones((3, 3), np.uint8)


def block_means(image: np.ndarray, block: int) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (ceil(h / block), ceil(w / block), 3): means of blocks of pixels, in grey levels.

    The last blocks of a row or column are smaller if the side is not a multiple of `block`, which is 1 to 256.
    """
    from rtseg.pictures._changes_kernel import fill_means  # loads numba, so only when needed

    height, width = image.shape[:2]
    means = np.empty((-(-height // block), -(-width // block), 3), np.float32)
    fill_means(np.ascontiguousarray(image).reshape(height, 3 * width), block, np.empty(3 * width, np.uint16), means)
    return means


def block_changes(means: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Two float32 (h, w, 3) -> float32 (h, w): how much each block changed, in grey levels, 0 to 255.

    This is the largest difference over the channels, in the block itself or, times `BESIDE`, in its eight neighbours.
    """
    from rtseg.pictures._changes_kernel import fill_differences

    own = np.empty(means.shape[:2], np.float32)
    fill_differences(means, before, own)
    changes: np.ndarray = np.maximum(own, cv2.dilate(own, _NEIGHBOURS) * np.float32(BESIDE))
    return changes
