"""Where a picture has changed: means of blocks, which average a camera's noise away, compared between two frames."""

import cv2
import numpy as np

BLOCK = 8  # pixels: the mean of 8 x 8 has an eighth of a pixel's noise

_NEIGHBOURS = np.ones((3, 3), np.uint8)


def block_means(image: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (ceil(h / block), ceil(w / block), 3): means of blocks of pixels, in grey levels.

    The last blocks of a row or column are smaller where the side is no multiple of `block`, which is 1 to 256.
    """
    from rtseg.pictures._changes_kernel import fill_means  # numba: only when frames are compared

    height, width = image.shape[:2]
    means = np.empty((-(-height // block), -(-width // block), 3), np.float32)
    fill_means(np.ascontiguousarray(image).reshape(height, 3 * width), block, np.empty(3 * width, np.uint16), means)
    return means


def block_changes(means: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Two float32 (h, w, 3) -> float32 (h, w): the largest difference of a channel, in grey levels, 0 to 255.

    A block has the largest of its own and its eight neighbours': what enters a block begins to matter beside it.
    """
    blue, green, red = np.moveaxis(np.abs(means - before), 2, 0)
    changes: np.ndarray = cv2.dilate(np.maximum(np.maximum(blue, green), red), _NEIGHBOURS)
    return changes
