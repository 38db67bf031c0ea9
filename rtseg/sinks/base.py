"""The contract of all sinks, which take labelled frames, and simple sinks."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from rtseg.core.errors import OutputError
from rtseg.core.files import NAME_MAX, atomic_path, check_place
from rtseg.core.frame import Frame

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class Sink(ABC):
    """Takes labelled frames, one call per frame, from one thread; it keeps no array after `write` returns.

    Attributes:
        frames: frames written so far.
    """

    frames: int = 0

    @abstractmethod
    def write(self, frame: Frame, labels: np.ndarray, picture: np.ndarray) -> None:
        """Writes one frame.

        Args:
            frame: as the source returned it.
            labels: uint8 (H, W), at the frame's size.
            picture: uint8 BGR (H', W', 3), the overlay; it may have another size.

        Raises:
            OutputError: it cannot be written (disk full, folder gone, window closed).
        """

    def write_sure(self, frame: Frame, labels: np.ndarray, picture: np.ndarray, confidence: np.ndarray | None) -> None:
        """Same as `write`, with the confidence, uint8 (H, W), or None; for sinks that use it."""
        self.write(frame, labels, picture)

    def close(self, complete: bool = True) -> None:  # noqa: B027 (most sinks hold nothing open)
        """Ends the output; may be called more than once.

        Args:
            complete: False if the run failed: then unfinished output does not get its final name.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(complete=error is None)


class NullSink(Sink):
    """Counts frames and keeps nothing, for measurements."""

    def write(self, frame: Frame, labels: np.ndarray, picture: np.ndarray) -> None:
        self.frames += 1


def check_picture(path: Path) -> None:
    """Raises OutputError for a suffix that is not a picture format."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise OutputError(f"{path} cannot be written: {path.suffix or 'no suffix'} is not a picture format; "
                          f"allowed: {' '.join(PICTURE_SUFFIXES)}")  # fmt: skip


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes uint8 (H, W) or BGR (H, W, 3) to a picture file, completely or not at all.

    Raises:
        OutputError: unknown suffix, or the file cannot be written.
    """
    check_picture(path)
    suffix = path.suffix.lower()
    # level 1 is 3x faster than the default, and label maps are always small
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else []
    _, data = cv2.imencode(suffix, picture, options)
    with atomic_path(path) as part:
        part.write_bytes(data.tobytes())


def make_folder(folder: Path) -> None:
    """Creates a folder and checks that files can be created in it; raises OutputError otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write in folder {folder}: {error.strerror or error}; choose another") from error


def check_name(path: Path) -> None:
    """Raises OutputError if a file's name is longer than file systems allow."""
    if (length := len(os.fsencode(path.name))) > NAME_MAX:
        raise OutputError(f"cannot write {path}: its name has {length} bytes and file systems take {NAME_MAX}")


def check_file(path: Path) -> None:
    """Checks before the work whether a file can be written after it; raises OutputError if not."""
    check_place(path)
    check_name(path)
    make_folder(path.parent)
