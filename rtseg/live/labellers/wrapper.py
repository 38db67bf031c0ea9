"""The base class of labellers that wrap another: everything is forwarded unless overridden."""

from itertools import count
from time import perf_counter

import numpy as np

from rtseg.core.card import Card
from rtseg.core.closing import Closing
from rtseg.core.frame import Frame, Labelled
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size
from rtseg.core.threads import ThreadBudget
from rtseg.engines import EngineInfo
from rtseg.live.labeller import Labeller
from rtseg.live.policies import Policy


class Wrapper(Closing):
    """A `Labeller` that forwards everything to `inner`; subclasses override what they change."""

    def __init__(self, inner: Labeller) -> None:
        self.inner = inner
        self._numbers = count()

    @property
    def card(self) -> Card:
        return self.inner.card

    @property
    def labels(self) -> LabelSet:
        return self.card.labels

    @property
    def info(self) -> EngineInfo:
        return self.inner.info

    @property
    def budget(self) -> ThreadBudget:
        return self.inner.budget

    @property
    def policy(self) -> Policy | None:
        return self.inner.policy

    def claim(self) -> None:
        self.inner.claim()

    def release(self) -> None:
        self.inner.release()

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        return self.inner.prepare(frame_hw, most_in_flight)

    def resize(self, image: np.ndarray) -> np.ndarray | None:
        return self.inner.resize(image)

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        self.inner.submit(frame, resized)

    def collect(self) -> Labelled:
        return self.inner.collect()

    def discard(self) -> None:
        self.inner.discard()

    def close(self) -> None:
        self.inner.close()

    def __call__(self, frame: np.ndarray | Frame) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> labels uint8 (H, W); raises what `claim`, `submit` and `collect` do.

        Calls are numbered in order, like the frames of a video.
        """
        self.claim()
        try:
            self.submit(frame if isinstance(frame, Frame) else Frame(frame, next(self._numbers), 0.0, perf_counter()))
            return self.collect().labels
        finally:
            self.release()
