"""The contract of all sources of frames."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from fractions import Fraction
from typing import ClassVar, Self

from rtseg.core.closing import Closing
from rtseg.core.errors import InputError
from rtseg.core.frame import Frame
from rtseg.core.sizes import Size
from rtseg.sources.prefetch import Prefetch


class Source(Closing, ABC):
    """Delivers frames from one place, in order.

    A source reads ahead on its own thread, so `read` can be interrupted whatever the device does. Its attributes are
    known once it is open, since the first frame has then been read. One thread reads; any thread may `interrupt`.

    Attributes:
        kind: 'camera', 'video', 'image', 'images' or 'synthetic'.
        name: its name in messages and file names, without the password that a URL may contain.
        size_hw: (height, width) of the first frame; pictures in a folder may have other sizes.
        fps: frames per second, or None if the source does not say.
        frame_count: number of frames, or None if the source does not say.
        live: frames arrive in real time; a reader that is too slow should keep the newest and drop the rest.
        corrupt: frames so far that could not be decoded; they are skipped, but `Frame.index` counts them.
        outages: how often a live source was lost, including now.
        late: frames of a live source that were dropped because they were too old.
        notes: what a user should know about it.
        closed: it was closed and delivers no more frames.
        pixel_aspect: width of a pixel divided by its height as shown; None if pixels are square.

    Example:
        >>> with open_source("drive.mp4") as source:
        ...     for frame in source:
        ...         print(frame.index, frame.timestamp_s, frame.image.shape)
    """

    kind: ClassVar[str]
    depth: ClassVar[int] = 2  # frames read ahead
    closed = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.size_hw: Size = (0, 0)
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.live = False
        self.corrupt = self.outages = self.late = 0
        self.notes: list[str] = []
        self.pixel_aspect: Fraction | None = None
        self._first: Frame | None = None

    @property
    def endless(self) -> bool:
        """Whether it delivers frames until it is closed."""
        return self.live or self.kind == "synthetic"

    @abstractmethod
    def _frames(self) -> Generator[Frame, None, None]:
        """Yields the frames; runs on the source's thread, where it opens its input and closes it in `finally`."""

    def _start(self, timeout_s: float | None = None) -> None:
        """Starts reading and waits for the first frame; every subclass calls this at the end of its `__init__`."""
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
        """Makes a waiting `read` and all later ones return None; may be called from any thread."""
        self._first = None
        self._ahead.interrupt()

    def close(self) -> None:
        """Stops reading and frees the device or file; may be called more than once."""
        self.closed = True
        self._first = None
        self._ahead.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        frame = self.read()
        if frame is None:
            raise StopIteration
        return frame
