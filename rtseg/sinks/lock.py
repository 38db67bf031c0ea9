"""Lets only one process at a time write a file or folder."""

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rtseg.core.closing import Closing
from rtseg.core.errors import OutputError


class Lock(Closing):
    """Holds a lock file until `close`; the system releases it when the process ends, however that happens.

    Args:
        path: the lock file; it is removed at the end.
        busy: the error message if another process holds it.

    Raises:
        OutputError: another process holds the lock, or the file cannot be written.
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
        """Releases the lock; a second call does nothing."""
        if not self._lock.is_locked:
            return
        # Removed while held, so that a process waiting for it notices. Windows removes it only after release.
        with suppress(OSError):
            os.unlink(self._path)
        self._lock.release()
        if os.name == "nt":
            with suppress(OSError):
                os.unlink(self._path)
