"""Files that are either whole or absent under their final name."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Any
from zlib import crc32

from rtseg.core.errors import OutputError

NAME_MAX = 255  # bytes of a name, on all common file systems


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, means that a disk, quota or file cannot take more."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__
    return False


def file_url(path: Path) -> str:
    """What FFmpeg is to be given for a file: it takes the bare name `12:30.mp4` for an address of protocol `12`."""
    return f"file:{os.fspath(path)}"


def sync(path: Path) -> None:
    """Has a file's content written to the disk, so that a power cut cannot leave a name without it.

    Raises:
        OutputError: it cannot be.
    """
    try:
        with path.open("r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; check the folder and free space") from error


def check_place(path: Path) -> None:
    """Raises OutputError if `path` is a folder, pipe, socket or device: a file would replace it."""
    if os.path.isdir(path):
        raise OutputError(f"cannot write {path}: it is a folder; give a file name")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(f"cannot write {path}: it is a pipe, socket or device; give a file name")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block ends without an error.

    Raises:
        OutputError: the folder cannot be made or written, the disk is full, or something other than a file is there.
    """
    check_place(path)
    # short, so that a name that just fits has room for it
    part = path.with_name(f".{crc32(os.fsencode(path.name)):08x}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; check the folder and free space") from error


def write_json(path: Path, data: Any) -> None:
    """Writes `data` as indented JSON, atomically; raises OutputError as `atomic_path` does."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
