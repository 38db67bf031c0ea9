"""Engines that run a network as a chain of graphs, and can stop at the exit behind each."""

from abc import abstractmethod

import numpy as np

from rtseg.core.errors import EngineError
from rtseg.engines.base import Engine
from rtseg.engines.run import Run


class ChainEngine(Engine):
    """Holds one graph, or with `EngineOptions.exits` a chain of them; what they hand on stays in its own memory.

    A subclass implements `_begin` and `_step`.

    Attributes:
        length: how many graphs there are.
    """

    length: int
    _started = 0  # pictures so far

    @abstractmethod
    def _begin(self, image: np.ndarray) -> None:
        """Takes a checked picture; the one before is gone."""

    @abstractmethod
    def _step(self, number: int) -> np.ndarray:
        """Runs graph `number` on what the ones before it gave; its logits, float32 (C, h/s, w/s)."""

    def start(self, image: np.ndarray) -> Run:
        if not self._exits:
            return super().start(image)
        self._begin(self._checked(image))
        number = self._started

        def step(graph: int) -> np.ndarray:
            if self._closed or number != self._started:
                raise EngineError("the engine was closed or given another picture: start this one again")
            return self._step(graph)

        return Run([exit.name for exit in self.card.exits], step)

    def _infer(self, image: np.ndarray) -> np.ndarray:
        self._begin(image)
        for number in range(self.length - 1):
            self._step(number)
        return self._step(self.length - 1)

    def _checked(self, image: np.ndarray) -> np.ndarray:
        image = super()._checked(image)
        self._started += 1
        return image
