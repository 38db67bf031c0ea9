"""The base class of labellers that stop a network at an early exit."""

from abc import ABC, abstractmethod
from collections import deque

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.errors import EngineError
from rtseg.core.frame import Frame, Labelled
from rtseg.core.sizes import Size
from rtseg.engines import EngineInfo
from rtseg.engines.run import Run
from rtseg.live.labellers.stage import stage
from rtseg.live.labellers.wrapper import Wrapper
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.upsample import upsample_labels


class Stopping(Wrapper, ABC):
    """Labels each frame by a `Run`; one frame at a time, whatever is allowed.

    A subclass implements `_labels`.

    Args:
        segmenter: of a `RunSpec` with `exit`, which makes it load the chain of graphs.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__(segmenter)
        self._segmenter = segmenter
        self._arrays = ArrayPool()
        self._waiting: deque[tuple[Frame, np.ndarray | None]] = deque()

    @abstractmethod
    def _labels(self, run: Run, size_hw: Size, stages_s: dict[str, float]) -> tuple[np.ndarray, str]:
        """Returns the labels, uint8 `size_hw`, of a run that has just begun, and the exit that made them.

        Adds the seconds of 'engine' and 'upsample' to `stages_s` (see `stage`).
        """

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        return self._segmenter.prepare(frame_hw)

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        self.prepare(frame.size_hw)
        self._waiting.append((frame, resized))

    def collect(self) -> Labelled:
        if not self._waiting:
            raise EngineError("no picture is in flight: call submit() first")
        frame, resized = self._waiting.popleft()
        stages_s: dict[str, float] = {}
        with stage(stages_s, "resize"):
            resized = self._segmenter.input(frame.image, resized)
        labels, exit = self._labels(self._segmenter.engine.start(resized), frame.size_hw, stages_s)
        return Labelled(labels, stages_s, exit=exit)

    def _upsampled(self, logits: np.ndarray, size_hw: Size) -> np.ndarray:
        return upsample_labels(logits, size_hw, self._arrays.take(size_hw), threads=self.info.threads)

    def discard(self) -> None:
        self._waiting.clear()
