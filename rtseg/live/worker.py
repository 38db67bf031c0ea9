"""One call at a time on a thread of its own, so that who waits for it may give up."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Runs calls beside its owner, who asks how far they are; for one owner's thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rtseg-anytime")
        self._started: Future[T] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call was started whose result was not taken yet."""
        return self._started is not None

    def start(self, work: Callable[[], T]) -> None:
        """Starts a call; the result of the one before must have been taken."""
        assert self._started is None
        self._started = self._pool.submit(work)

    def done_within(self, seconds: float | None) -> bool:
        """Waits so long at most (None: for as long as it takes) and says whether the call has ended."""
        assert self._started is not None
        timeout_s = None if seconds is None else max(0.0, seconds)
        return bool(wait([self._started], timeout_s).done)

    def take(self) -> T:
        """What the call gave, once it has ended; raises what it raised."""
        assert self._started is not None
        started, self._started = self._started, None
        return started.result()

    def close(self) -> None:
        """Waits for the call and ends the thread."""
        self._pool.shutdown()
