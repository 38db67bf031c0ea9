"""Runs one call at a time on its own thread, so that whoever waits for it can give up."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Runs calls in the background; only the owner's thread may start, wait for and take them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rtseg-anytime")
        self._started: Future[T] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call was started and its result not yet taken."""
        return self._started is not None

    def start(self, work: Callable[[], T]) -> None:
        """Starts a call; the previous result must have been taken."""
        assert self._started is None
        self._started = self._pool.submit(work)

    def done_within(self, seconds: float | None) -> bool:
        """Waits at most so long (None: without limit) and returns whether the call has ended."""
        assert self._started is not None
        timeout_s = None if seconds is None else max(0.0, seconds)
        return bool(wait([self._started], timeout_s).done)

    def take(self) -> T:
        """Returns the result of the call once it has ended; raises its error."""
        assert self._started is not None
        started, self._started = self._started, None
        return started.result()

    def close(self) -> None:
        """Waits for the call and ends the thread."""
        self._pool.shutdown()
