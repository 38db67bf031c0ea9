"""A picture on its way through a network with exits."""

from collections.abc import Callable, Sequence

import numpy as np

from rtseg.core.errors import EngineError
from rtseg.core.sizes import Size

Corners = Sequence[tuple[int, int]]
"""(top, left) of equal parts of a picture, in its pixels."""


class Run:
    """One picture on its way through a network with exits; dropping it stops it.

    Args:
        exits: names, in the order in which they compute.
        step: computes from one exit to the next, given the number of that one.
        parts: computes from an exit, given the number of the next one, to the end, for parts of the picture.

    Attributes:
        exit: the exit that the logits came from; '' before the first.
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
        """Whether there is an exit further on."""
        return self._done < len(self._exits)

    def logits(self) -> np.ndarray:
        """Computes up to the next exit; its logits, float32 (C, h/s, w/s), are valid until the engine's next work.

        Raises:
            EngineError: there is no further exit, the engine has another picture or is closed, or it failed.
        """
        self._check()
        logits = self._step(self._done)
        self.exit = self._exits[self._done]
        self._done += 1
        return logits

    def parts(self, corners: Corners, size_hw: Size) -> np.ndarray:
        """Computes from here to the last exit on parts of the picture alone, as one batch; the run stays where it is.

        The first call for a size loads what such parts need. A part knows nothing of what is around it: what it gives
        differs from what the whole picture does up to `Exit.halo` pixels from its edges, those of the picture apart.

        Args:
            corners: of the parts, N of them; multiples of the card's `size_multiple`, as is the size.
            size_hw: of each.

        Returns:
            float32 (N, C, h/s, w/s), valid until the engine's next work.

        Raises:
            UsageError: a part is not inside the picture, or not on such multiples.
            EngineError: no exit was computed yet, none is left, and as `logits`.
        """
        self._check()
        if not self._done:
            raise EngineError("parts go on from an exit: ask for the logits of one first")
        return self._parts(self._done, corners, size_hw)

    def _check(self) -> None:
        if not self.more:
            raise EngineError(f"{self.exit} was the last exit: ask `more` first")
