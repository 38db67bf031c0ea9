"""Augmentation of training pictures (albumentations), and pasting parts of other pictures onto them."""

import albumentations as A
import cv2
import numpy as np

from rtseg.core.sizes import Size
from rtseg.training.light import other_light


def training_augmentation(
    crop_hw: Size, scale: tuple[float, float], ignore_index: int, light: float = 0.0
) -> A.Compose:
    """Scale, crop, flip, light, colour, blur and noise; then, for a share `light`, other light or weather."""
    return A.Compose([*geometry(crop_hw, scale, ignore_index), *photometry(light)])


def geometry(crop_hw: Size, scale: tuple[float, float], ignore_index: int) -> list[A.BasicTransform]:
    """Scale, turn, shift, crop, flip: the changes to picture and labels alike."""
    height, width = crop_hw
    return [
        A.Affine(
            scale=scale, rotate=(-4, 4), keep_ratio=True, translate_percent=(-0.12, 0.12), balanced_scale=True,
            interpolation=cv2.INTER_LINEAR, mask_interpolation=cv2.INTER_NEAREST,
            border_mode=cv2.BORDER_CONSTANT, fill=(104, 116, 124), fill_mask=ignore_index, p=0.9,
        ),
        A.PadIfNeeded(height, width, border_mode=cv2.BORDER_CONSTANT, fill=(104, 116, 124), fill_mask=ignore_index),
        A.RandomCrop(height, width),
        A.HorizontalFlip(p=0.5),
    ]  # fmt: skip


def photometry(light: float) -> list[A.BasicTransform]:
    """Light, colour, blur and noise; then, for a share `light`, other light or weather. Leaves the labels unchanged.

    Strong on purpose: CamVid's drives differ more in light than its splits show.
    """
    return [
        A.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0.3, p=0.6),
        A.HueSaturationValue(hue_shift_limit=8, sat_shift_limit=35, val_shift_limit=0, p=0.4),
        A.RGBShift(r_shift_limit=15, g_shift_limit=15, b_shift_limit=15, p=0.3),
        A.RandomGamma(gamma_limit=(65, 150), p=0.4),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.MotionBlur(blur_limit=(3, 7))], p=0.15),
        A.GaussNoise(std_range=(0.01, 0.05), per_channel=True, noise_scale_factor=0.5, p=0.15),
        *([other_light(light)] if light else []),
    ]


def paste_classes(
    image: np.ndarray, labels: np.ndarray, other: np.ndarray, other_labels: np.ndarray, ignore_index: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Pastes all pixels of a random half of another picture's classes (ClassMix, Olsson 2021; there with predicted
    labels, here with true ones).

    This puts objects in front of backgrounds that the data set does not show them with.

    Args:
        image, other: uint8 (H, W, 3).
        labels, other_labels: uint8 (H, W).
        ignore_index: label that is never pasted.
        rng: chooses the classes.

    Returns:
        The mixed image and labels, in new arrays.
    """
    present = np.unique(other_labels)
    present = present[present != ignore_index]
    chosen = rng.choice(present, (len(present) + 1) // 2, replace=False)
    pasted = np.isin(other_labels, chosen)
    return np.where(pasted[..., None], other, image), np.where(pasted, other_labels, labels)
