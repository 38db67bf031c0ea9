"""Other light and weather: strong changes that leave the labels unchanged.

Drives outside the training data look different: dark, wet, hazy, with a low sun or a poor camera.
"""

from typing import Any

import albumentations as A
import cv2
import numpy as np


def other_light(share: float) -> A.OneOf:
    """With probability `share` one of: dark, overexposed, warm or cold, haze, uneven light, washed out, poor camera."""
    poor = [A.ImageCompression(quality_range=(12, 45)), A.Downscale(scale_range=(0.4, 0.7))]
    return A.OneOf(
        [
            A.RandomGamma(gamma_limit=(160, 320), p=1.0),
            Exposure(p=1.0),
            Temperature(p=1.0),
            Haze(p=1.0),
            UnevenLight(p=1.0),
            A.HueSaturationValue(hue_shift_limit=0, sat_shift_limit=(-150, -50), val_shift_limit=0, p=1.0),
            A.OneOf(poor, p=1.0),
        ],
        p=share,
    )


class _Drawn(A.ImageOnlyTransform):  # type: ignore[misc]
    """A change whose parameters are drawn from the transform's own random state."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return self.draw(self.random_generator, params["shape"][0])

    def draw(self, rng: np.random.Generator, height: int) -> dict[str, Any]:
        raise NotImplementedError


class Exposure(_Drawn):
    """Overexposure: 1.3 to 2.2 times the light, clipped at white."""

    def draw(self, rng: np.random.Generator, height: int) -> dict[str, Any]:
        return {"gain": rng.uniform(1.3, 2.2)}

    def apply(self, img: np.ndarray, gain: float, **_: Any) -> np.ndarray:
        return as_picture(img * np.float32(gain))


class Temperature(_Drawn):
    """Warmer or colder: red and blue change by up to a factor of 1.4, against each other (blue is the first plane)."""

    def draw(self, rng: np.random.Generator, height: int) -> dict[str, Any]:
        return {"warmth": rng.choice((-1.0, 1.0)) * rng.uniform(0.1, 0.34)}

    def apply(self, img: np.ndarray, warmth: float, **_: Any) -> np.ndarray:
        return as_picture(img * np.exp(np.array([-warmth, 0, warmth], np.float32)))


class Haze(_Drawn):
    """Fog: light grey over the picture, dense from the horizon upwards, thin at the bottom, where things are near."""

    def draw(self, rng: np.random.Generator, height: int) -> dict[str, Any]:
        horizon, thick = rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.8)
        depth = np.clip((1 - np.linspace(0, 1, height)) / (1 - horizon), 0, 1)
        return {"veil": (thick * depth**1.5).astype(np.float32)[:, None, None], "grey": rng.uniform(170, 235)}

    def apply(self, img: np.ndarray, veil: np.ndarray, grey: float, **_: Any) -> np.ndarray:
        return as_picture(img * (1 - veil) + np.float32(grey) * veil)


class UnevenLight(_Drawn):
    """Shadows and low sun: a smooth field of factors, 0.35 to 1.5."""

    def draw(self, rng: np.random.Generator, height: int) -> dict[str, Any]:
        rows, columns = rng.integers(2, 5, 2)
        return {"factors": rng.uniform(np.log(0.35), np.log(1.5), (rows, columns)).astype(np.float32)}

    def apply(self, img: np.ndarray, factors: np.ndarray, **_: Any) -> np.ndarray:
        field = cv2.resize(factors, (img.shape[1], img.shape[0]), interpolation=cv2.INTER_LINEAR)
        return as_picture(img * np.exp(field)[..., None])


def as_picture(values: np.ndarray) -> np.ndarray:
    """float (H, W, 3) -> uint8, clipped to 0..255."""
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
