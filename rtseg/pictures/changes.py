"""Where a picture has changed: means of blocks, which average a camera's noise away, compared between two frames."""

import cv2
import numpy as np

BESIDE = 0.5  # of a neighbour's change: what enters a block begins to matter beside it

_NEIGHBOURS = np.ones((3, 3), np.uint8)


def block_means(image: np.ndarray, block: int) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (ceil(h / block), ceil(w / block), 3): means of blocks of pixels, in grey levels.

    The last blocks of a row or column are smaller where the side is no multiple of `block`, which is 1 to 256.
    """
    from rtseg.pictures._changes_kernel import fill_means  # numba: only when frames are compared

    height, width = image.shape[:2]
    means = np.empty((-(-height // block), -(-width // block), 3), np.float32)
    fill_means(np.ascontiguousarray(image).reshape(height, 3 * width), block, np.empty(3 * width, np.uint16), means)
    return means


def block_changes(means: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Two float32 (h, w, 3) -> float32 (h, w): by how many grey levels, 0 to 255, each block changed.

    That is the largest difference of a channel in the block itself, or `BESIDE` of it in one of its eight neighbours.
    """
    from rtseg.pictures._changes_kernel import fill_differences

    own = np.empty(means.shape[:2], np.float32)
    fill_differences(means, before, own)
    changes: np.ndarray = np.maximum(own, cv2.dilate(own, _NEIGHBOURS) * np.float32(BESIDE))
    return changes
