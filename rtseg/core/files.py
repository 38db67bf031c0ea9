"""Files that are either complete or absent under their final name."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any
from zlib import crc32

from rtseg.core.errors import OutputError

NAME_MAX = 255  # most bytes of a file name, on all common file systems


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or its cause, means that a disk, quota or file is full."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__
    return False


def file_url(path: Path) -> str:
    """A file's URL for FFmpeg, which would read the bare name `12:30.mp4` as an address with protocol `12`."""
    return f"file:{os.fspath(path)}"


def sync(path: Path) -> None:
    """Flushes a file's content to the disk, so that a power cut cannot leave its name without content.

    Raises:
        OutputError: flushing failed.
    """
    try:
        with path.open("r+b") as file:  # Windows flushes only files opened for writing
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; check the folder and free space") from error


def check_place(path: Path) -> None:
    """Raises OutputError if `path` is a folder, pipe, socket or device, since a file would replace it."""
    if os.path.isdir(path):
        raise OutputError(f"cannot write {path}: it is a folder; give a file name")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(f"cannot write {path}: it is a pipe, socket or device; give a file name")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it replaces `path` when the block ends without an error.

    Raises:
        OutputError: the folder cannot be created or written, the disk is full, or `path` is not a file.
    """
    check_place(path)
    # short, so that it also fits beside a name of the greatest length
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


def check_regular(path: Path) -> Path:
    """Returns the path if it is a regular file; OSError if there is none, or for a pipe, which may never end."""
    mode = path.stat().st_mode
    if S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    if not S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, socket or device, not a file", str(path))
    return path


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; raises OSError or UnicodeDecodeError."""
    return check_regular(path).read_text(encoding="utf-8-sig")


def read_json(path: Path) -> Any:
    """The contents of a JSON file; OSError if it cannot be read, ValueError if it is not JSON."""
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
