"""Runs an iterator ahead of its reader on a thread, with a limited number of items waiting."""

import threading
from collections import deque
from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """The items of a generator, produced on a background thread.

    The generator is opened, run and closed on that thread, so a call that blocks inside it (a network read) blocks
    nobody else. It is a daemon thread, which cannot keep the process alive even if it never returns.

    Example:
        >>> ahead = Prefetch((n * n for n in range(3)), depth=2, name="squares")
        >>> ahead.get(), ahead.get(), ahead.get(), ahead.get()
        (0, 1, 4, None)
    """

    def __init__(self, items: Generator[T, None, None], depth: int, name: str) -> None:
        self._generator = items
        self._depth = depth
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._generator:
                if not self._put(item):
                    break
        except BaseException as caught:
            error = caught
        finally:
            self._generator.close()
            with self._changed:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Waits for room; False if nobody wants more items."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._ready) < self._depth)
            if not self._stopped:
                self._ready.append(item)
                self._changed.notify_all()
            return not self._stopped

    def get(self, timeout_s: float | None = None) -> T | None:
        """The next item; None at the end or after `interrupt`.

        Raises:
            TimeoutError: no item within `timeout_s`.
            BaseException: whatever the generator raised, after the items before it.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._stopped or self._ready or self._ended, timeout_s):
                raise TimeoutError
            if self._stopped:
                return None
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            return None

    def interrupt(self) -> None:
        """Makes a waiting `get` and all later ones return None; may be called from any thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self, timeout_s: float = 0.5) -> None:
        """Stops the thread; if it is blocked in a system call, it is left to end later."""
        self.interrupt()
        self._thread.join(timeout_s)
        self._ready.clear()
