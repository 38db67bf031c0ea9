"""What the network sees of an unlabelled picture: a weak and two strong views of one crop."""

import math
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from torch import Tensor

from rtseg.core.sizes import Size, same_pixels
from rtseg.pictures.resize import resize_image
from rtseg.sources.images import read_image
from rtseg.training.augment import geometry, photometry
from rtseg.training.config import TrainConfig

_LIGHT = 0.5  # minimum share of the strong views with other light or weather
_PADDING = 255
_CUT_SHARE, _CUT_AREA, _CUT_RATIO = 0.5, (0.02, 0.4), (0.3, 1 / 0.3)  # the paper's


class UnlabelledViews:
    """Makes a weak and two strong views of each picture; all depend on the seed and the turn alone.

    Args:
        config: provides crop, scale, size, light and seed.
        paths: the pictures.
    """

    def __init__(self, config: TrainConfig, paths: Sequence[Path]) -> None:
        self.paths, self.seed, self.train_hw = paths, config.seed, config.train_hw
        self.weak = A.Compose(geometry(config.crop_hw, config.scale, _PADDING))
        self.strong = A.Compose(photometry(max(config.light, _LIGHT)))

    def picture(self, turn: int) -> Path:
        """The picture of a turn: each comes once before any comes again, in a new order each time."""
        rounds, place = divmod(turn, len(self.paths))
        order = np.random.default_rng((self.seed, rounds)).permutation(len(self.paths))
        return self.paths[int(order[place])]

    def take(self, turn: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the views of a turn's picture.

        Returns:
            Its views, weak, strong and strong: uint8 BGR (3, h, w, 3). Which pixels are not padding: bool (h, w). Where
            to paste a piece of another picture into each strong view: bool (2, h, w).
        """
        image = read_image(self.picture(turn))
        if self.train_hw is not None:
            image = resize_image(image, same_pixels((image.shape[0], image.shape[1]), self.train_hw))
        self.weak.set_random_seed(hash((self.seed, turn)) & 0x7FFFFFFF)
        self.strong.set_random_seed(hash((self.seed, turn, 1)) & 0x7FFFFFFF)
        cropped = self.weak(image=image, mask=np.zeros(image.shape[:2], np.uint8))
        weak, known = cropped["image"], cropped["mask"] != _PADDING
        views = np.stack([weak, *(self.strong(image=weak)["image"] for _ in range(2))])
        rng = np.random.default_rng((self.seed, turn, 2))
        pasted = np.stack([cut(rng, weak.shape[:2]) for _ in range(2)])
        return torch.from_numpy(views), torch.from_numpy(known), torch.from_numpy(pasted)


def cut(rng: np.random.Generator, size_hw: Size) -> np.ndarray:
    """bool (H, W): in half of the calls a rectangle of 2 to 40 % of the area, else nothing."""
    area = np.zeros(size_hw, bool)
    if rng.random() < _CUT_SHARE:
        pixels = rng.uniform(*_CUT_AREA) * area.size
        low, high = _CUT_RATIO
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        height = min(size_hw[0], round(math.sqrt(pixels * ratio)))
        width = min(size_hw[1], round(math.sqrt(pixels / ratio)))
        top, left = rng.integers(size_hw[0] - height + 1), rng.integers(size_hw[1] - width + 1)
        area[top : top + height, left : left + width] = True
    return area
