"""The page as an outlet of the loop's view: takes pictures, publishes figures, handles requests."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from queue import Empty
from time import perf_counter
from typing import Any

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.sizes import format_size
from rtseg.live.loop import Loop
from rtseg.live.pipeline import Result
from rtseg.live.views.browser.address import Address, Listener
from rtseg.live.views.browser.server import Command, Server
from rtseg.live.views.desk import Desk

_TELL_S = 0.25


@dataclass(frozen=True)
class Chart:
    """A curve on the page: `value` returns its newest point, NaN if there is none."""

    name: str
    label: str
    unit: str
    value: Callable[[Loop], float]


CHARTS = (
    Chart("fps", "Frames per second", "fps", lambda loop: loop.stats.recent()[0]),
    Chart("latency", "Capture to picture", "ms", lambda loop: loop.stats.recent()[1]),
)


class BrowserOutlet:
    """Serves the page as soon as it is created.

    Attributes:
        url: the page's address.
    """

    def __init__(self, address: Address) -> None:
        """Opens the port and starts the server.

        Raises:
            OutputError: the port is in use, or the address does not belong to this machine.
        """
        listener = Listener(address)
        self.url = listener.url
        self._server = Server(listener)
        self._told_at = 0.0

    def show(self, result: Result, picture: np.ndarray) -> None:
        self._server.offer(result.frame.index, result.frame.captured_at, picture)

    def poll(self, desk: Desk, loop: Loop, wait_s: float) -> bool:
        if self._server.error is not None:
            raise self._server.error
        asked = self._answer(desk, loop, wait_s)
        if self._server.has_readers and (asked or perf_counter() - self._told_at >= _TELL_S):
            self._server.publish(_state(desk, loop))
            self._told_at = perf_counter()
        return asked

    def close(self) -> None:
        self._server.close()

    def _answer(self, desk: Desk, loop: Loop, wait_s: float) -> bool:
        """Handles the requests that have arrived."""
        asked = False
        while True:
            try:
                command = self._server.commands.get(timeout=wait_s) if wait_s else self._server.commands.get_nowait()
            except Empty:
                return asked
            asked, wait_s = True, 0.0
            if command.done.set_running_or_notify_cancel():
                error = desk.attempt(partial(_do, command, desk, loop))
                command.done.set_result(None) if error is None else command.done.set_exception(error)


def _do(command: Command, desk: Desk, loop: Loop) -> None:
    what = command.what
    if set(what) == {"key"}:
        desk.controls.press(loop, what["key"])
    elif set(what) == {"name", "value"}:
        desk.controls.change(loop, what["name"], what["value"])
    else:
        raise UsageError('a command is {"name": …, "value": …} or {"key": …}')


def _state(desk: Desk, loop: Loop) -> dict[str, str]:
    """Topic -> JSON: figures change with every picture, the other topics when somebody uses the controls."""
    topics = {
        "figures": {"charts": _charts(loop), "facts": _facts(loop)},
        "controls": {"controls": desk.controls.state(loop), "loading": desk.loading, "recording": desk.recording},
        "note": asdict(desk.note),
    }
    return {topic: json.dumps(content, allow_nan=False) for topic, content in topics.items()}


def _charts(loop: Loop) -> list[dict[str, Any]]:
    found = []
    for chart in CHARTS:
        value = chart.value(loop)
        found.append({"name": chart.name, "label": chart.label, "unit": chart.unit,
                      "value": round(value, 2) if isfinite(value) else None})  # fmt: skip
    return found


def _facts(loop: Loop) -> dict[str, str]:
    """What is running, for people to read."""
    stats = loop.stats
    facts = {"Source": loop.source.name}
    if stats.card is not None and stats.info is not None:
        info = stats.info
        facts |= {
            "Network": f"{stats.card.name}, {info.precision}, input {format_size(info.size_hw)}",
            "Engine": f"{info.engine} ({info.runtime} on {info.device})",
        }
    return {**facts, "Pictures": f"{stats.frames}, {loop.drops} dropped"}
