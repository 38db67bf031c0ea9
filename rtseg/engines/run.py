"""A picture on its way through a network with exits."""

from collections.abc import Callable, Sequence

import numpy as np

from rtseg.core.errors import EngineError


class Run:
    """One picture on its way through a network with exits; dropping it stops it.

    Args:
        exits: names, in the order in which they compute.
        step: computes from one exit to the next, given the number of that one.

    Attributes:
        exit: the exit that the logits came from; '' before the first.
    """

    def __init__(self, exits: Sequence[str], step: Callable[[int], np.ndarray]) -> None:
        self._exits, self._step = list(exits), step
        self._done = 0
        self.exit = ""

    @property
    def more(self) -> bool:
        """Whether there is an exit further on."""
        return self._done < len(self._exits)

    def logits(self) -> np.ndarray:
        """Computes up to the next exit; its logits, float32 (C, h/s, w/s), are valid until the engine's next work.

        Raises:
            EngineError: there is no further exit, the engine has another picture or is closed, or it failed.
        """
        if not self.more:
            raise EngineError(f"{self.exit} was the last exit: ask `more` first")
        logits = self._step(self._done)
        self.exit = self._exits[self._done]
        self._done += 1
        return logits
