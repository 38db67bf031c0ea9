"""Cameras, through OpenCV."""

import re
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from rtseg.core.errors import InputError
from rtseg.core.frame import Frame
from rtseg.core.sizes import Size
from rtseg.sources.base import Source
from rtseg.sources.images import to_bgr8

_DEVICES = Path("/dev")
_NAMES = Path("/sys/class/video4linux")
_MISSES_ALLOWED = 30  # after so many reads in a row without a picture, a camera counts as gone


@dataclass(frozen=True)
class CameraInfo:
    """A camera that can be opened now; `fps` is None if the driver does not say."""

    index: int
    name: str
    size_hw: Size
    fps: float | None


class CameraSource(Source):
    """A camera by its index. It requests MJPG, size, rate and the shortest buffer; a driver may ignore any of them."""

    kind = "camera"
    depth = 1

    def __init__(
        self, index: int, size_hw: Size | None = None, fps: float | None = None, timeout_s: float = 10.0
    ) -> None:
        super().__init__(f"camera {index}")
        self.live = True
        self._capture = _open(index)
        asked: list[tuple[int, float]] = [(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))]
        if size_hw:
            asked += [(cv2.CAP_PROP_FRAME_HEIGHT, size_hw[0]), (cv2.CAP_PROP_FRAME_WIDTH, size_hw[1])]
        if fps:
            asked.append((cv2.CAP_PROP_FPS, fps))
        with _quiet_opencv():
            for setting, value in (*asked, (cv2.CAP_PROP_BUFFERSIZE, 1)):
                self._capture.set(setting, value)
        self.fps = _rate(self._capture)
        self._start(timeout_s)

    def _frames(self) -> Generator[Frame, None, None]:
        index, misses, start = 0, 0, None
        try:
            while True:
                got, image = self._capture.read()
                now = perf_counter()
                if got and image is not None and image.size:
                    start = now if start is None else start
                    yield Frame(to_bgr8(image, self.name), index, now - start, now)
                    misses = 0
                else:
                    self.corrupt, misses = self.corrupt + 1, misses + 1
                    if misses >= _MISSES_ALLOWED:
                        raise InputError(f"{self.name} gives no more pictures: was it unplugged or taken over?")
                index += 1
        finally:
            self._capture.release()


def list_cameras(limit: int = 10) -> list[CameraInfo]:
    """The cameras with an index below `limit` that can be opened now; opens and closes each."""
    found = []
    for index in _present(limit):
        try:
            capture = _open(index)
        except InputError:
            continue
        height, width = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        found.append(CameraInfo(index, _device_name(index), (height, width), _rate(capture)))
        capture.release()
    return found


def _present(limit: int) -> list[int]:
    """The indices that may be cameras: on Linux those with a device file, elsewhere all of them."""
    if not sys.platform.startswith("linux"):
        return list(range(limit))
    matches = (re.fullmatch(r"video(\d+)", path.name) for path in _DEVICES.glob("video*"))
    return sorted(index for match in matches if match and (index := int(match[1])) < limit)


def _device_name(index: int) -> str:
    try:
        return (_NAMES / f"video{index}" / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return f"camera {index}"


def _open(index: int) -> cv2.VideoCapture:
    """Opens a camera, or raises InputError, which tells a missing one from a busy one if the system knows."""
    hint = "try --source synthetic, or rtseg-cam --list-cameras"
    if Path(str(index)).exists():
        hint += f"; for the file or folder of that name write ./{index}"
    linux = sys.platform.startswith("linux")
    if linux and not (_DEVICES / f"video{index}").exists():
        raise InputError(f"no camera {index}: there is no {_DEVICES}/video{index}; {hint}")
    with _quiet_opencv():
        capture = cv2.VideoCapture(index)
    if capture.isOpened():
        return capture
    capture.release()
    if linux:
        raise InputError(
            f"camera {index} cannot be opened: it is busy in another program, you may not read "
            f"{_DEVICES}/video{index}, or it gives no pictures; {hint}"
        )
    raise InputError(f"no camera {index}: absent, busy in another program, or not permitted; {hint}")


def _rate(capture: cv2.VideoCapture) -> float | None:
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if np.isfinite(rate) and 0 < rate < 1000 else None


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV's own warnings off stderr, since our error lines report all of them."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
