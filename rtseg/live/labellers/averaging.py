"""Test-time averaging: runs one network on flipped and scaled copies of a picture. More accurate, never real-time."""

from collections import deque

import numpy as np

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Frame, Labelled
from rtseg.core.sizes import Size, format_size
from rtseg.engines import EngineInfo
from rtseg.live.labellers.stage import stage
from rtseg.live.labellers.wrapper import Wrapper
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.average import average_labels

SCALES = (0.25, 4.0)  # smallest and largest allowed scale


class Averaging(Wrapper):
    """Labels by the mean class probabilities over scales and, if asked for, mirror images.

    It wraps a `Segmenter`, since it needs logits. An engine has one input size, so each other scale gets a segmenter of
    its own, opened with the first picture; closing the wrapped one closes them too.

    Attributes:
        sizes: the network's input sizes, one per scale; known after `prepare`.
    """

    def __init__(self, segmenter: Segmenter, scales: tuple[float, ...] = (1.0,), flip: bool = False) -> None:
        """Sets up; `scales` are factors of the input size that `segmenter` would use alone.

        Raises:
            UsageError: no scale, one outside 0.25..4, or a network that outputs no scores or takes only one size.
        """
        if not scales or not all(SCALES[0] <= scale <= SCALES[1] for scale in scales):
            raise UsageError(f"scales {scales} are not allowed: give one or more from {SCALES[0]:g} to {SCALES[1]:g}")
        card = segmenter.card
        if card.gives_labels:
            raise UsageError(
                f"{card.name} gives labels, and there is nothing to average: leave --scales and --flip out"
            )
        if card.fixed_size is not None and set(scales) != {1.0}:
            raise UsageError(f"{card.name} takes {format_size(card.fixed_size)} only: leave --scales out")
        super().__init__(segmenter)
        self.scales, self.flip = scales, flip
        self._segmenter = segmenter
        self._scaled: list[Segmenter] = []
        self._waiting: deque[Frame] = deque()

    @property
    def sizes(self) -> list[Size]:
        return [segmenter.info.size_hw for segmenter in self._scaled]

    @property
    def info(self) -> EngineInfo:
        return (self._scaled or [self._segmenter])[0].info

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        """Loads the networks; one frame at a time, whatever is allowed."""
        for scale in self.scales[len(self._scaled) :]:
            segmenter = self._segmenter.at_scale(scale, frame_hw)
            segmenter.prepare(frame_hw)
            self._scaled.append(segmenter)
        return self.info

    def resize(self, image: np.ndarray) -> None:
        """Returns None: there is no single input size."""

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        self.prepare(frame.size_hw)
        self._waiting.append(frame)

    def collect(self) -> Labelled:
        if not self._waiting:
            raise EngineError("no picture is in flight: call submit() first")
        frame, views = self._waiting.popleft(), []
        stages_s: dict[str, float] = {}
        for segmenter in self._scaled:
            with stage(stages_s, "resize"):
                resized = segmenter.input(frame.image)
            with stage(stages_s, "engine"):
                views.append(segmenter.engine.infer(resized).copy())  # the next call overwrites its buffer
                if self.flip:
                    views.append(segmenter.engine.infer(resized[:, ::-1])[..., ::-1].copy())
        with stage(stages_s, "upsample"):
            labels = average_labels(views, frame.size_hw)
        return Labelled(labels, stages_s)

    def discard(self) -> None:
        self._waiting.clear()
