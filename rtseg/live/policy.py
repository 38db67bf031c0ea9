"""How frames and threads are shared out: which frames a slow consumer sees, and who may use which core."""

import os
from collections import deque
from dataclasses import dataclass
from numbers import Integral
from threading import Condition
from time import perf_counter
from typing import Generic, TypeVar

from rtseg.core.errors import UsageError
from rtseg.core.machine import cores

T = TypeVar("T")

_WAKE_S = 0.1  # an untimed wait cannot be interrupted by Ctrl-C on every platform


class Ended(Exception):
    """Nothing more will come out of a channel."""


class Channel(Generic[T]):
    """A bounded first-in-first-out queue between two threads.

    When it is full, `put` waits (a file: nothing is lost), or, with `newest`, the oldest item makes room
    and is counted in `dropped` (a camera: nothing is late).
    """

    def __init__(self, size: int, *, newest: bool = False) -> None:
        self.dropped = 0
        self._size = size
        self._newest = newest
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closed = False

    def put(self, item: T) -> bool:
        """Hands over an item; False where the channel is closed and the item was not taken."""
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
        """The oldest item; None where none came in time; raises Ended once closed and empty."""
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
        """Takes no more items; those inside can still be fetched."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Closes and throws away what is inside."""
        with self._changed:
            self._items.clear()
            self.close()


@dataclass(frozen=True)
class ThreadBudget:
    """Threads each part of the loop may use; the parts overlap, so small parts get few.

    Attributes:
        total: cores shared by everything below.
        engine: for the network, and, after it in the same thread, for label upsampling.
        opencv: for resizing and drawing (`cv2.setNumThreads`).
        codec: for decoding and, again, for encoding video.
    """

    total: int
    engine: int
    opencv: int
    codec: int


def thread_budget(total: int | None = None) -> ThreadBudget:
    """Shares `total` threads (default: every core of this process) among the parts of the loop.

    The network is nearly all of the arithmetic, so up to two cores it gets every one; beyond that a quarter
    is left to capture, drawing and writing, which run at the same time.

    Raises:
        UsageError: fewer than one thread, or more than the machine has cores.
    """
    most = max(cores(), os.cpu_count() or 1)
    total = cores() if total is None else total
    if not (isinstance(total, Integral) and 1 <= total <= most):
        raise UsageError(f"{total!r} threads are not allowed: give 1 to {most}, the cores of this machine")
    total = int(total)  # of NumPy's whole numbers JSON knows nothing
    rest = max(1, total // 4)
    return ThreadBudget(total=total, engine=total if total <= 2 else total - rest, opencv=rest, codec=rest)


def frames_in_flight(threads: int) -> int:
    """Frames that an engine of `threads` keeps in flight where fps count more than the age of a frame.

    One a thread is fastest, since no thread then waits for another; above four the memory is better spent otherwise.
    """
    return min(threads, 4)


def apply_budget(budget: ThreadBudget) -> None:
    """Sets the process-wide part of the budget; engines and codecs get theirs when they are opened."""
    import cv2

    cv2.setNumThreads(budget.opencv)
