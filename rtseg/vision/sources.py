"""Where frames come from: the contract of all sources, and the one function that opens them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Self

from rtseg.core.closing import Closing
from rtseg.core.errors import InputError, UsageError
from rtseg.core.frame import Frame
from rtseg.core.paths import user_path
from rtseg.core.sizes import Size
from rtseg.vision.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_of
from rtseg.vision.prefetch import Prefetch

URL_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
_ALLOWED = "a source is a camera index such as 0, a video, an image, a folder of images, a URL, or synthetic"


class Source(Closing, ABC):
    """Frames, in order, from one place.

    A source reads ahead on its own thread, so `read` can be interrupted whatever the device does. Attributes are
    known once it is open: the first frame has then been read. One thread reads; any thread may `interrupt`.

    Attributes:
        kind: 'camera', 'video', 'image', 'images' or 'synthetic'.
        name: what to call it in messages and file names; without the password that a URL may hold.
        size_hw: (height, width) of the first frame; a folder of images may hold others.
        fps: frames per second, or None where the source does not say.
        frame_count: number of frames, or None where the source does not say.
        live: frames arrive by the clock; whoever cannot follow should keep the newest and drop the rest.
        corrupt: frames that could not be decoded, so far; they are skipped, and `Frame.index` counts them.
        notes: what a user should know about it.
        pixel_aspect: width of a pixel by its height as shown, where pixels are not square; else None.

    Example:
        >>> with open_source("drive.mp4") as source:
        ...     for frame in source:
        ...         print(frame.index, frame.timestamp_s, frame.image.shape)
    """

    kind: ClassVar[str]
    depth: ClassVar[int] = 2  # frames read ahead

    def __init__(self, name: str) -> None:
        self.name = name
        self.size_hw: Size = (0, 0)
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.live = False
        self.corrupt = 0
        self.notes: list[str] = []
        self.pixel_aspect: Fraction | None = None
        self._first: Frame | None = None

    @property
    def endless(self) -> bool:
        """Whether it gives frames until it is closed."""
        return self.live or self.kind == "synthetic"

    @abstractmethod
    def _frames(self) -> Generator[Frame, None, None]:
        """Yields the frames; runs on the source's thread, opens there what it reads and closes it in `finally`."""

    def _start(self, timeout_s: float | None = None) -> None:
        """Starts reading and waits for the first frame; every subclass ends its `__init__` with this call."""
        self._ahead = Prefetch(self._frames(), self.depth, f"rtseg-source-{self.kind}")
        try:
            self._first = self._ahead.get(timeout_s)
        except TimeoutError:
            self._ahead.close(0)
            raise InputError(
                f"{self.name} gave no frame within {timeout_s:g} s: check that it is on and reachable"
            ) from None
        except BaseException:
            self._ahead.close(0)
            raise
        if self._first is None:
            self._ahead.close()
            raise InputError(f"{self.name} holds no frame that can be decoded; it may be empty or damaged")
        self.size_hw = self._first.size_hw

    def read(self) -> Frame | None:
        """The next frame; None at the end and after `interrupt` or `close`.

        Raises:
            InputError: the device, file or connection failed.
        """
        frame, self._first = self._first, None
        return frame or self._ahead.get()

    def interrupt(self) -> None:
        """Makes a `read` that waits, and every later one, return None; may be called from any thread."""
        self._first = None
        self._ahead.interrupt()

    def close(self) -> None:
        """Stops reading and frees the device or file; may be called more than once."""
        self._first = None
        self._ahead.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        frame = self.read()
        if frame is None:
            raise StopIteration
        return frame


def open_source(
    spec: str | int | Path,
    *,
    size_hw: Size | None = None,
    fps: float | None = None,
    camera_size: Size | None = None,
    seed: int = 0,
    timeout_s: float = 10.0,
    threads: int | None = None,
) -> Source:
    """Opens what `spec` names.

    Args:
        spec: a camera index (0), 'synthetic' or 'synthetic:SEED', an image, a folder of images, a video file, or a
            URL (rtsp, http and others that FFmpeg reads).
        size_hw: (height, width) of the synthetic street; 512x1024 if None.
        fps: asked of a camera; of the synthetic street (30 if None); of images, which have none (1 if None).
        camera_size: (height, width) asked of a camera, which may give another.
        seed: of the synthetic street, where `spec` holds none.
        timeout_s: for a camera's or URL's first frame, and for every later read from a URL.
        threads: of the video decoder; None lets FFmpeg choose.

    Raises:
        InputError: it is missing, damaged, busy, empty, unreachable or of a kind that is not supported.
        UsageError: a setting that no source could have.
    """
    if fps is not None and not 0 < fps < 1000:
        raise UsageError(f"fps {fps:g} is not allowed: give a rate above 0 and below 1000")
    text = str(spec).strip()
    if not text:
        raise InputError(f"no source is given; {_ALLOWED}")
    if match := re.fullmatch(r"synthetic(?::(\d+))?", text):
        from rtseg.vision.source_synthetic import SyntheticSource

        return SyntheticSource(size_hw or (512, 1024), int(match[1]) if match[1] else seed, fps or 30.0)
    if match := re.fullmatch(r"(?:/dev/video)?(\d+)", text):
        from rtseg.vision.source_camera import CameraSource

        return CameraSource(int(match[1]), camera_size, fps, timeout_s)
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text):
        from rtseg.vision.source_video import VideoSource

        if match[1].lower() not in URL_SCHEMES:
            raise InputError(f"URL scheme {match[1]!r} is not supported; allowed: {', '.join(URL_SCHEMES)}")
        return VideoSource(text, timeout_s=timeout_s, threads=threads)
    exact = user_path(str(spec))
    return _open_path(exact if exact.exists() else user_path(text), fps, threads)


def _open_path(path: Path, fps: float | None, threads: int | None) -> Source:
    from rtseg.vision.source_images import ImageSource, ImagesSource

    if path.is_dir():
        return ImagesSource(path, fps or 1.0)
    if not path.exists():
        raise InputError(f"no such file: {path}; {_ALLOWED}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): fetch or record it again")
    kind = kind_of(path)
    if kind == "picture":
        return ImageSource(path, fps or 1.0)
    if kind == "video":
        from rtseg.vision.source_video import VideoSource

        return VideoSource(path, threads=threads)
    allowed = " ".join(suffix[1:] for suffix in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    raise InputError(f"{path}: file type {path.suffix or 'without a suffix'} is not supported; allowed: {allowed}")
