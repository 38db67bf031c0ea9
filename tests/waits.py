"""Events instead of sleeps: a test notices when a thread waits, however busy the machine is."""

import threading
from collections.abc import Callable

import pytest

from rtseg.sources.prefetch import Prefetch

HANGS_S = 250  # ends a test that waits for something that never comes; no test takes that long


def note_waits(monkeypatch: pytest.MonkeyPatch, ahead: Prefetch, thread: threading.Thread) -> threading.Event:  # type: ignore[type-arg]
    """An event that is set once `thread` waits in `ahead`, for an item or for room."""
    waits, plain = threading.Event(), ahead._changed.wait_for

    def wait_for(condition: Callable[[], object], timeout: float | None = None) -> object:
        if threading.current_thread() is thread and not condition():
            waits.set()  # whoever this wakes needs the lock that `plain` releases
        return plain(condition, timeout)

    monkeypatch.setattr(ahead._changed, "wait_for", wait_for)
    return waits
