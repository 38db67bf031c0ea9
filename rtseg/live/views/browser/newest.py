"""One slot for the newest value, whatever the number of followers: nothing queues, so nothing gets old."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Holds the newest value for all followers; used inside one event loop.

    A slow follower misses values, but never gets one twice or out of order.

    Attributes:
        followers: how many there are; may be read from any thread.
    """

    def __init__(self, joined: Callable[[], None] = lambda: None) -> None:
        """`joined` is called when a follower joins."""
        self.followers = 0
        self._joined = joined
        self._number = 0
        self._value: T | None = None
        self._changed = asyncio.Event()

    def set(self, value: T) -> None:
        if not self.followers:  # the last one has just left
            return
        self._number += 1
        self._value = value
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Counts a follower; when the last one leaves, the value is dropped: it would be old for the next."""
        self.followers += 1
        self._joined()
        try:
            yield
        finally:
            self.followers -= 1
            if not self.followers:
                self._value = None

    @property
    def has_value(self) -> bool:
        return self._value is not None

    async def follow(self) -> AsyncIterator[T]:
        """Yields the newest value each time there is one that was not yielded yet."""
        seen = 0
        while True:
            changed = self._changed
            if self._value is None or self._number == seen:
                await changed.wait()
                continue
            seen = self._number
            yield self._value
