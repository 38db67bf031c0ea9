"""Bounded queues between threads, and groups of threads that end together."""

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Lock, Thread
from time import perf_counter
from typing import Any, Generic, TypeVar
from weakref import WeakSet

_log = logging.getLogger(__name__)
T = TypeVar("T")

_WAKE_S = 0.1  # on some platforms Ctrl-C cannot interrupt a wait without timeout

_stuck: WeakSet[Thread] = WeakSet()  # threads that did not end when their group was joined


class Ended(Exception):
    """The channel is closed and empty."""


class Channel(Generic[T]):
    """A bounded first-in-first-out queue between two threads.

    When it is full, `put` waits, so nothing is lost (files). With `newest`, the oldest item is removed instead and
    counted in `dropped`, so nothing is late (cameras).
    """

    def __init__(self, size: int, *, newest: bool = False) -> None:
        self.dropped = 0
        self._size = size
        self._newest = newest
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closed = False

    def put(self, item: T) -> bool:
        """Adds an item; False if the channel is closed and did not take it."""
        with self._changed:
            while len(self._items) >= self._size and not self._closed:
                if self._newest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait(_WAKE_S)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> T | None:
        """Removes and returns the oldest item; None if none came in time; raises Ended once closed and empty."""
        deadline = None if timeout_s is None else perf_counter() + timeout_s
        with self._changed:
            while not self._items:
                if self._closed:
                    raise Ended
                left = _WAKE_S if deadline is None else deadline - perf_counter()
                if left <= 0:
                    return None
                self._changed.wait(min(left, _WAKE_S))
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Accepts no more items; those inside can still be fetched."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Closes the channel and discards what is inside."""
        with self._changed:
            self._items.clear()
            self.close()


class ThreadGroup:
    """Threads that all end when one of them fails."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._channels: list[Channel[Any]] = []
        self._threads: list[Thread] = []
        self._lock = Lock()

    def watch(self, *channels: Channel[Any]) -> None:
        """Adds channels that are aborted on a failure, which wakes and ends the threads that use them."""
        self._channels.extend(channels)

    def start(self, name: str, work: Callable[[], None], ends: Channel[Any] | None = None) -> None:
        """Runs `work` until it returns or a channel ends; then closes `ends`, the channel that it filled."""

        def guarded() -> None:
            try:
                work()
            except Ended:
                pass
            except BaseException as error:
                self.fail(error)
            if ends is not None:
                ends.close()

        # daemon: a camera driver that never returns must not keep the process alive
        thread = Thread(target=guarded, name=f"rtseg-{name}", daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def fail(self, error: BaseException) -> None:
        """Keeps the first error and makes every thread end."""
        with self._lock:
            self.error = self.error or error
        self.abort()

    def abort(self) -> None:
        for channel in self._channels:
            channel.abort()

    def join(self, timeout_s: float, tell: bool = True) -> bool:
        """Waits for the threads; False if one is stuck in a foreign call, which is logged if `tell` is set."""
        deadline = perf_counter() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - perf_counter()))
        stuck = [thread for thread in self._threads if thread.is_alive()]
        _stuck.update(stuck)
        if stuck and tell:
            _log.warning("still busy after %.0f s: %s", timeout_s, ", ".join(thread.name for thread in stuck))
        return not stuck


def any_stuck() -> bool:
    """Whether a thread is still stuck in a foreign call after its group was joined."""
    return any(thread.is_alive() for thread in _stuck)
