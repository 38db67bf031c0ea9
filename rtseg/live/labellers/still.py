"""Reuses labels: while the camera and the scene stand still, the network need not run."""

from collections import deque
from dataclasses import replace
from time import perf_counter

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.frame import Frame, Labelled
from rtseg.core.sizes import Size
from rtseg.live.labeller import Labeller
from rtseg.live.labellers.wrapper import Wrapper
from rtseg.pictures.changes import block_means

CHANGED = 4.0  # grey levels of a block's mean
BLOCK = 8  # pixels: a mean of 8 x 8 has an eighth of a pixel's noise
MOST = 30  # frames in a row that may share labels; then even small or slow changes are picked up


class Still(Wrapper):
    """Passes a frame on unless it looks like the last one passed on; then it gets the same labels.

    A frame looks like another if no block of 8 x 8 pixels of the network's input differs by `CHANGED` or more in its
    mean. It is compared with the frame that the network saw, not with the one before, so that slow changes add up. A
    frame with reused labels has only the stages 'resize' and 'compare', and no exit.
    """

    def __init__(self, inner: Labeller) -> None:
        super().__init__(inner)
        self._arrays = ArrayPool()
        self._seen: np.ndarray | None = None  # block means of the last frame that was passed on
        self._size_hw: Size | None = None
        self._again = 0
        self._started: deque[tuple[bool, dict[str, float]]] = deque()  # whether it was passed on, and its stages
        self._last: Labelled | None = None

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        start = perf_counter()
        size_hw = self.prepare(frame.size_hw).size_hw
        if resized is None or resized.shape[:2] != size_hw:
            resized = self.resize(frame.image)
            assert resized is not None  # the engine is loaded
        stages_s = {"resize": perf_counter() - start}
        start = perf_counter()
        means = block_means(resized, BLOCK)
        new = self._again >= MOST or frame.size_hw != self._size_hw or self._differ(means)
        stages_s["compare"] = perf_counter() - start
        if new:
            self.inner.submit(frame, resized)
            self._seen, self._size_hw = means, frame.size_hw
        self._again = 0 if new else self._again + 1
        self._started.append((new, stages_s))

    def _differ(self, means: np.ndarray) -> bool:
        before = self._seen
        return before is None or before.shape != means.shape or bool((np.abs(means - before) >= CHANGED).any())

    def collect(self) -> Labelled:
        if self._started and not self._started[0][0]:
            _, stages_s = self._started.popleft()
            assert self._last is not None  # the first frame was passed on
            return replace(self._copy(self._last), stages_s=stages_s, exit="")
        made = self.inner.collect()
        _, stages_s = self._started.popleft()
        self._last = self._copy(made)
        return replace(made, stages_s={**made.stages_s, **stages_s})

    def _copy(self, made: Labelled) -> Labelled:
        """A copy with its own arrays."""
        confidence = None if made.confidence is None else self._arrays.copy(made.confidence)
        return replace(made, labels=self._arrays.copy(made.labels), confidence=confidence)

    def discard(self) -> None:
        self.inner.discard()
        self._started.clear()
        self._seen = self._last = None
