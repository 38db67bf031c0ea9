"""The run of a picture through a network with exits."""

from collections.abc import Callable, Sequence

import numpy as np

from rtseg.core.errors import EngineError
from rtseg.core.sizes import Size

Corners = Sequence[tuple[int, int]]
"""(top, left) of equally large parts of a picture, in its pixels."""


class Run:
    """One picture's run through a network with exits; drop it to stop.

    Args:
        exits: names, in the order in which they are computed.
        step: computes from one exit to the next; takes the number of the next exit.
        parts: computes from an exit to the end for parts of the picture; takes the number of the exit after it.

    Attributes:
        exit: the exit that the last logits came from; '' before the first.
    """

    def __init__(
        self,
        exits: Sequence[str],
        step: Callable[[int], np.ndarray],
        parts: Callable[[int, Corners, Size], np.ndarray],
    ) -> None:
        self._exits, self._step, self._parts = list(exits), step, parts
        self._done = 0
        self.exit = ""

    @property
    def more(self) -> bool:
        """Whether there is a further exit."""
        return self._done < len(self._exits)

    def logits(self) -> np.ndarray:
        """Computes up to the next exit; returns its logits, float32 (C, h/s, w/s), valid until the engine's next call.

        Raises:
            EngineError: there is no further exit, the engine has another picture or is closed, or it failed.
        """
        self._check()
        logits = self._step(self._done)
        self.exit = self._exits[self._done]
        self._done += 1
        return logits

    def parts(self, corners: Corners, size_hw: Size) -> np.ndarray:
        """Computes from here to the last exit on parts of the picture only, as one batch; the run stays where it is.

        The first call for a size loads what these parts need. A part is computed without its surroundings: up to
        `Exit.halo` pixels from its edges, except at the picture's edges, its result differs from that of the whole
        picture.

        Args:
            corners: corners of the N parts, multiples of the card's `size_multiple`.
            size_hw: size of each part, multiples as well.

        Returns:
            float32 (N, C, h/s, w/s), valid until the engine's next call.

        Raises:
            UsageError: a part is not inside the picture, or not at such multiples.
            EngineError: no exit was computed yet, none is left, or the errors of `logits`.
        """
        self._check()
        if not self._done:
            raise EngineError("parts go on from an exit: ask for the logits of one first")
        return self._parts(self._done, corners, size_hw)

    def _check(self) -> None:
        if not self.more:
            raise EngineError(f"{self.exit} was the last exit: ask `more` first")
