"""One batch at a time in an output folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rtseg.core.errors import OutputError

_NAME = ".rtseg-video.lock"


@contextmanager
def output_lock(folder: Path) -> Iterator[None]:
    """Holds the folder; the system frees it when the process ends, however it ends.

    Raises:
        OutputError: another process holds it, or it cannot be written.
    """
    path = folder / _NAME
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"another rtseg-video is writing to {folder}: wait for it, or choose another --output"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot write in folder {folder}: {error.strerror or error}; choose another") from error
    try:
        yield
    finally:
        # While it is held: who waits for the removed file notices. Windows removes it only once it is free.
        with suppress(OSError):
            os.unlink(path)
        lock.release()
        if os.name == "nt":
            with suppress(OSError):
                os.unlink(path)
