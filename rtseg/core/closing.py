"""Objects that hold resources."""

import logging
from threading import Lock
from types import TracebackType
from typing import Self

from rtseg.core.errors import UsageError

_log = logging.getLogger(__name__)


class Closing:
    """A context manager that calls `close` at the end, whatever happened inside."""

    def close(self) -> None:
        """Frees its resources; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Claimed(Closing):
    """Used by one user at a time, from `claim` to `release`; `close` frees it once nobody uses it.

    A subclass implements `_free`. If a user never releases it because a call hangs, it stays open: closing it would
    wait for that call or crash the process.

    Args:
        kind: what it is called in messages.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._in_use = Lock()
        self._closed = False

    def _free(self) -> None:
        """Frees its resources; called again if it is closed again."""
        raise NotImplementedError

    def claim(self) -> None:
        """Reserves it for one user until `release`; raises UsageError if it is in use."""
        if not self._in_use.acquire(blocking=False):
            raise UsageError(f"this {self._kind} is in use by a stream or another thread: load a second one for this")

    def release(self) -> None:
        """Ends a `claim`; frees the resources if it was closed meanwhile."""
        self._in_use.release()
        if self._closed:
            self.close()

    def close(self) -> None:
        """Frees its resources, or leaves that to `release` while it is in use; a second call does nothing."""
        self._closed = True
        if not self._in_use.acquire(blocking=False):
            _log.info("this %s is closed while it is in use, and stays open until it is let go", self._kind)
            return
        try:
            self._free()
        finally:
            self._in_use.release()
