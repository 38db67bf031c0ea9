"""A window on the screen, controlled by keys."""

from functools import partial

import numpy as np

from rtseg.live.loop import Loop
from rtseg.live.pipeline import Result
from rtseg.live.views.desk import Desk
from rtseg.sinks.window import WindowSink

_OWN_KEYS = {"q, Esc": "Quit", "h": "This help"}


class WindowOutlet:
    """Shows pictures in a window, with messages drawn into them; keys work the controls."""

    def __init__(self, window: WindowSink) -> None:
        self._window = window
        self._help = False

    def show(self, result: Result, picture: np.ndarray) -> None:
        self._window.write(result.frame, result.labels, picture)

    def poll(self, desk: Desk, loop: Loop, wait_s: float) -> bool:
        if self._window.closed:
            loop.stop()
            return False
        key = self._window.poll_key(max(1, round(1000 * wait_s)))
        if key is not None:
            self._press(key.lower(), desk, loop)
        keys = {**desk.controls.keys(), **_OWN_KEYS} if self._help else {}
        desk.painter.notes = desk.notes(loop) + [f"{names}: {what}" for names, what in keys.items()]
        return key is not None

    def _press(self, key: str, desk: Desk, loop: Loop) -> None:
        if key in ("q", "esc"):
            loop.stop()
        elif key == "h":
            self._help = not self._help
        else:
            desk.attempt(partial(desk.controls.press, loop, key))

    def close(self) -> None:
        self._window.close()
