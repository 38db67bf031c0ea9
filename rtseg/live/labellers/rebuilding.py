"""Reloads a network once if its engine fails during a run: out of memory, or the device was reset."""

import logging
from collections import deque
from collections.abc import Callable

import numpy as np

from rtseg.core.errors import EngineError
from rtseg.core.frame import Frame, Labelled
from rtseg.core.sizes import Size
from rtseg.core.watchdog import unwatched
from rtseg.engines import EngineInfo
from rtseg.live.labeller import Labeller
from rtseg.live.labellers.wrapper import Wrapper

_log = logging.getLogger(__name__)
_SOON = 1000  # frames: an engine that fails again within so many is broken


class Rebuilding(Wrapper):
    """Replaces a labeller whose engine failed with a new one, which also labels the frames in flight.

    A failure before the first labelled frame is raised, and so is a second one soon after the first.

    Args:
        make: makes the labeller, at the start and after a failure.

    Example:
        >>> Rebuilding(lambda: Segmenter(RunSpec("icnet")))
    """

    def __init__(self, make: Callable[[], Labeller]) -> None:
        super().__init__(make())
        self._make = make
        self._in_flight: deque[Frame] = deque()
        self._labelled = 0  # since the labeller was made
        self._enough = 1
        self._claimed = False
        self._prepared: tuple[Size, int] | None = None

    def claim(self) -> None:
        self.inner.claim()
        self._claimed = True

    def release(self) -> None:
        if self._claimed:  # not if a failed one was not replaced
            self._claimed = False
            self.inner.release()

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        self._prepared = self._prepared or (frame_hw, most_in_flight)
        return self.inner.prepare(frame_hw, most_in_flight)

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        try:
            self.inner.submit(frame, resized)
        except EngineError as error:
            self._rebuild(error)
            self.inner.submit(frame)
        self._in_flight.append(frame)

    def collect(self) -> Labelled:
        try:
            made = self.inner.collect()
        except EngineError as error:
            if not self._in_flight:
                raise
            self._rebuild(error)
            made = self.inner.collect()
        self._in_flight.popleft()
        self._labelled += 1
        return made

    def discard(self) -> None:
        self._in_flight.clear()
        self.inner.discard()

    def _rebuild(self, error: EngineError) -> None:
        """Raises `error` if a new labeller would not help."""
        if self._labelled < self._enough:
            raise error
        _log.warning("%s: reloading the network", error)
        self.inner.discard()
        claimed = self._claimed
        if claimed:
            self.release()  # otherwise it would stay open
        self.inner.close()
        with unwatched():
            self.inner = self._make()
            if claimed:
                self.claim()
            if self._prepared is not None:
                self.inner.prepare(*self._prepared)
        self._labelled, self._enough = 0, _SOON
        for frame in self._in_flight:
            self.inner.submit(frame)
