"""A file or folder that one process at a time may write."""

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rtseg.core.closing import Closing
from rtseg.core.errors import OutputError


class Lock(Closing):
    """Holds a lock file until `close`; the system frees it when the process ends, however it ends.

    Args:
        path: the lock file; it is removed at the end.
        busy: what to say where another process holds it.

    Raises:
        OutputError: another process holds it, or it cannot be written.
    """

    def __init__(self, path: Path, busy: str) -> None:
        self._path = path
        self._lock = FileLock(path, timeout=0, is_singleton=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(busy) from None
        except OSError as error:
            raise OutputError(
                f"cannot write in folder {path.parent}: {error.strerror or error}; choose another"
            ) from error

    def close(self) -> None:
        """Frees it; a second call does nothing."""
        if not self._lock.is_locked:
            return
        # While it is held: who waits for the removed file notices. Windows removes it only once it is free.
        with suppress(OSError):
            os.unlink(self._path)
        self._lock.release()
        if os.name == "nt":
            with suppress(OSError):
                os.unlink(self._path)
