"""The loop's view: a window, a page or both, on one desk."""

from collections.abc import Sequence
from time import sleep
from typing import Protocol

import numpy as np

from rtseg.live.loop import Loop
from rtseg.live.pipeline import Result
from rtseg.live.views.desk import Desk

_PAUSED_S = 0.03


class Outlet(Protocol):
    """Where pictures are watched and controls are worked; called by the loop's thread."""

    def show(self, result: Result, picture: np.ndarray) -> None:
        """Shows a picture, uint8 BGR (H, W, 3)."""

    def poll(self, desk: Desk, loop: Loop, wait_s: float) -> bool:
        """Does what was asked for, and waits up to `wait_s` for it; True where something was."""
        ...

    def close(self) -> None:
        """Ends it; a second call does nothing."""


class DeskView:
    """Shows the loop's pictures at every outlet and lets each work the controls.

    Example:
        >>> view = DeskView(desk, [window])
        >>> Loop(source, segmenter, draw=painter, view=view).run()
    """

    def __init__(self, desk: Desk, outlets: Sequence[Outlet]) -> None:
        self.desk = desk
        self._outlets = list(outlets)

    def show(self, loop: Loop, result: Result, picture: np.ndarray) -> None:
        self.desk.shown = result, picture
        for outlet in self._outlets:
            outlet.show(result, picture)

    def poll(self, loop: Loop) -> None:
        changed = self.desk.step(loop)
        wait_s = _PAUSED_S if loop.paused else 0.0
        if self.desk.shown is None:
            sleep(wait_s)  # no window yet, so that nothing would wait
        for outlet in self._outlets:
            changed |= outlet.poll(self.desk, loop, wait_s)
            wait_s = 0.0
        if changed and loop.paused and self.desk.shown is not None:
            result = self.desk.shown[0]  # the held picture, with what was changed during the pause
            self.show(loop, result, self.desk.painter(result, loop.hud_lines(result)))

    def close(self) -> None:
        """Closes the outlets and the networks that were opened at the desk."""
        for outlet in self._outlets:
            outlet.close()
        self.desk.close()
