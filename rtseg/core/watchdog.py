"""Ends threads that wait for a call that never returns: from a driver, a broken library or a stalled disk."""

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

MOST_S = 120.0  # longest time that a call may take
_LOOK_S = 1.0

Seconds = Callable[[], float]
"""Returns the processor time used so far, in seconds."""


def thread_clock() -> Seconds:
    """A function that any thread can call for this thread's processor time; always 0 if the system cannot tell."""
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
        """Returns how many looks in a row have found it idle."""
        try:
            used_s = self.used() if self.used else 0.0
        except OSError:  # its thread has just ended
            return 0
        works = used_s - self.before_s > self.busy_s
        self.looks, self.before_s = 0 if works else self.looks + 1, used_s
        return self.looks


class Watchdog:
    """Makes a group of threads fail if a call does not return in time.

    A thread checks the running calls once a second. It counts its checks instead of the time between them, so that a
    suspended machine or a stopped process is not late.

    Args:
        group: what fails; it also runs the checking thread.
        every_s: seconds between two checks.
        most_s: seconds that a call may take.

    Attributes:
        late: whether a call was late and the group has failed.

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
        """Starts the thread that checks; `close` ends it."""
        self._group.start("watchdog", self._run)

    def close(self) -> None:
        self._ended.set()

    @contextmanager
    def call(
        self, error: Callable[[], BaseException], used: Seconds | None = None, busy_s: float = 0.0
    ) -> Iterator[None]:
        """Watches the block, which must end in time.

        Args:
            error: makes the error that the group fails with.
            used: processor time of whatever does the work; None: the block must simply end in time.
            busy_s: the call is not late while more processor time than this was used since the last check.
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
        """One check, made once a second."""
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
    """The innermost watched call of this thread."""
    call: tuple[Watchdog, _Call] | None = getattr(_here, "call", None)
    return call


@contextmanager
def unwatched() -> Iterator[None]:
    """Excuses what may take longer inside a watched call, such as loading a network."""
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
    """`work` for another thread, watched if the call that hands it over is watched."""
    if (current := _current()) is None:
        return work
    watchdog, _ = current

    def announced() -> T:
        with watchdog.call(error):
            return work()

    return announced
