"""The one resize: training, evaluation, calibration and live use all go through it."""

import cv2
import numpy as np

from rtseg.core.sizes import Size


def resize_image(image: np.ndarray, size_hw: Size) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (h, w, 3): area average where it shrinks, bilinear where it grows."""
    height, width = size_hw
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_labels(labels: np.ndarray, size_hw: Size) -> np.ndarray:
    """uint8 (H, W) -> uint8 (h, w): nearest neighbour at pixel centres, so that ids stay ids."""
    height, width = size_hw
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
