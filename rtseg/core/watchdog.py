"""Ends threads that wait for a call which never returns: of a driver, a broken library, a stalled disk."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TypeVar

from rtseg.core.channel import ThreadGroup

T = TypeVar("T")

MOST_S = 120.0  # that a call may take
_LOOK_S = 1.0

Seconds = Callable[[], float]
"""Processor time so far."""


def thread_clock() -> Seconds:
    """The processor time of the thread that asks, to be read by any; always 0 if the system has no such clock."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0
    return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))


@dataclass(eq=False)
class _Call:
    error: Callable[[], BaseException]
    used: Seconds | None
    busy_s: float
    before_s: float = -inf
    looks: int = 0

    def look(self) -> int:
        """Looks in a row at which it had done nothing since the look before."""
        try:
            used_s = self.used() if self.used else 0.0
        except OSError:  # its thread has just ended
            return 0
        works = used_s - self.before_s > self.busy_s
        self.looks, self.before_s = 0 if works else self.looks + 1, used_s
        return self.looks


class Watchdog:
    """Fails a group of threads where a call does not return in time.

    A thread looks once a second at the calls that go on. Looks are counted, and not the time between them, so that a
    machine that was suspended or a process that was stopped is not late.

    Args:
        group: what fails, and what the thread belongs to.
        every_s: seconds between two looks.
        most_s: seconds that a call may take.

    Attributes:
        late: whether a call was late, so that the group has failed.

    Example:
        >>> watchdog = Watchdog(group)
        >>> watchdog.start()
        >>> with watchdog.call(lambda: EngineError("it hangs")):
        ...     engine.collect()
        >>> watchdog.close()
    """

    def __init__(self, group: ThreadGroup, *, every_s: float = _LOOK_S, most_s: float = MOST_S) -> None:
        self.late = False
        self._group = group
        self._every_s = every_s
        self._most = most_s / every_s
        self._calls: set[_Call] = set()  # add, discard and copy are atomic
        self._ended = threading.Event()

    def start(self) -> None:
        """Starts the thread that looks; `close` ends it."""
        self._group.start("watchdog", self._run)

    def close(self) -> None:
        self._ended.set()

    @contextmanager
    def call(
        self, error: Callable[[], BaseException], used: Seconds | None = None, busy_s: float = 0.0
    ) -> Iterator[None]:
        """What is done inside has to end in time.

        Args:
            error: makes what the group fails with.
            used: processor time of those who do it; None: only its end says that it goes on.
            busy_s: it goes on too where more than that was used since the look before.
        """
        call = _Call(error, used, busy_s)
        outer, _here.call = _current(), (self, call)
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)
            _here.call = outer

    def look(self) -> None:
        """What the thread does once a second."""
        for call in self._calls.copy():
            if call.look() >= self._most and call in self._calls and not self.late:
                self.late = True
                self._group.fail(call.error())
                self.close()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self.look()


_here = threading.local()


def _current() -> tuple[Watchdog, _Call] | None:
    """The innermost call of this thread that is watched."""
    call: tuple[Watchdog, _Call] | None = getattr(_here, "call", None)
    return call


@contextmanager
def unwatched() -> Iterator[None]:
    """Inside a call: what may well take longer, such as loading a network."""
    if (current := _current()) is None:
        yield
        return
    watchdog, call = current
    watchdog._calls.discard(call)
    try:
        yield
    finally:
        call.looks = 0
        watchdog._calls.add(call)


def watched_too(work: Callable[[], T], error: Callable[[], BaseException]) -> Callable[[], T]:
    """`work`, for another thread: where the call that hands it on is watched, so is this."""
    if (current := _current()) is None:
        return work
    watchdog, _ = current

    def announced() -> T:
        with watchdog.call(error):
            return work()

    return announced
