"""The loop's view: a window, a page or both, sharing one desk."""

from collections.abc import Sequence
from time import sleep
from typing import Protocol

import numpy as np

from rtseg.live.loop import Loop
from rtseg.live.pipeline import Result
from rtseg.live.views.desk import Desk

_PAUSED_S = 0.03


class Outlet(Protocol):
    """Where pictures are shown and controls are used; called by the loop's thread."""

    def show(self, result: Result, picture: np.ndarray) -> None:
        """Shows a picture, uint8 BGR (H, W, 3)."""

    def poll(self, desk: Desk, loop: Loop, wait_s: float) -> bool:
        """Handles requests, waiting up to `wait_s` for them; True if there were any."""
        ...

    def close(self) -> None:
        """Closes it; a second call does nothing."""


class DeskView:
    """Shows the loop's pictures at every outlet, each of which can use the controls.

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
            sleep(wait_s)  # no window yet, so nothing else would wait
        for outlet in self._outlets:
            changed |= outlet.poll(self.desk, loop, wait_s)
            wait_s = 0.0
        if changed and loop.paused and self.desk.shown is not None:
            result = self.desk.shown[0]  # the paused picture, with settings changed during the pause
            self.show(loop, result, self.desk.painter(result, loop.hud_lines(result)))

    def close(self) -> None:
        """Closes the outlets and the networks that were opened through the desk."""
        for outlet in self._outlets:
            outlet.close()
        self.desk.close()
