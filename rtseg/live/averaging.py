"""Test-time averaging: the same network on flipped and scaled copies of a picture. More accurate, never real-time."""

from dataclasses import replace

import numpy as np

from rtseg.core.closing import Closing
from rtseg.core.errors import UsageError
from rtseg.core.sizes import Size, format_size
from rtseg.engines import Engine
from rtseg.live.segmenter import EngineChoice, default_size
from rtseg.pictures.average import average_labels
from rtseg.pictures.resize import resize_image

SCALES = (0.25, 4.0)  # smallest and largest allowed


class AveragingSegmenter(Closing):
    """Labels by the mean of the class probabilities over scales and, where wanted, mirror images.

    One engine for each scale is loaded with the first picture, since an engine has one input size.

    Attributes:
        sizes: the network's input sizes, one for each scale; known once a picture was segmented.
    """

    def __init__(self, choice: EngineChoice, scales: tuple[float, ...] = (1.0,), flip: bool = False) -> None:
        """Sets up; `scales` are factors of the input size that `choice` gives alone.

        Raises:
            UsageError: no scale, one outside 0.25..4, or a network that gives no scores or takes one size only.
        """
        if not scales or not all(SCALES[0] <= scale <= SCALES[1] for scale in scales):
            raise UsageError(f"scales {scales} are not allowed: give one or more from {SCALES[0]:g} to {SCALES[1]:g}")
        self.card, self.labels = choice.card, choice.card.labels
        if self.card.gives_labels:
            raise UsageError(f"{self.card.name} gives labels, and there is nothing to average: leave --scales and "
                             "--flip out")  # fmt: skip
        if self.card.fixed_size is not None and set(scales) != {1.0}:
            raise UsageError(f"{self.card.name} takes {format_size(self.card.fixed_size)} only: leave --scales out")
        self.scales, self.flip = scales, flip
        self._choice = choice
        self._engines: list[Engine] = []

    @property
    def sizes(self) -> list[Size]:
        return [engine.info.size_hw for engine in self._engines]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> labels uint8 (H, W); raises what an engine does."""
        frame_hw = (image.shape[0], image.shape[1])
        if not self._engines:
            self._load(frame_hw)
        views = []
        for engine in self._engines:
            resized = resize_image(image, engine.info.size_hw)
            views.append(engine.infer(resized).copy())  # the engine overwrites its buffer at the next call
            if self.flip:
                views.append(engine.infer(resized[:, ::-1])[..., ::-1].copy())
        return average_labels(views, frame_hw)

    def _load(self, frame_hw: Size) -> None:
        height, width = self._choice.size_hw or default_size(self.card, frame_hw)
        for scale in self.scales:
            size_hw = self.card.nearest_size((round(height * scale), round(width * scale)))
            self._engines.append(replace(self._choice, size_hw=size_hw).load(frame_hw))

    def close(self) -> None:
        """Frees the engines; a second call does nothing."""
        for engine in self._engines:
            engine.close()
