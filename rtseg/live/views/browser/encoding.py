"""Encoders beside the loop, each with one slot for the newest picture: a JPEG each, or H.264."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

import cv2
import numpy as np

from rtseg.core.errors import OutputError
from rtseg.live.views.browser.newest import Newest
from rtseg.sinks.fragments import Fragment, FragmentEncoder

T = TypeVar("T")

BOUNDARY = "rtseg-picture"
_QUALITY = 80
_KEY_S = 2.0  # a key frame at least so often: a player can throw away what lies before


@dataclass(frozen=True)
class Picture:
    """A picture, uint8 BGR (H, W, 3), of a frame; its time of capture is that of `perf_counter`."""

    index: int
    captured_at: float
    image: np.ndarray


class Encoding(Generic[T]):
    """Encodes the newest picture, once for all who follow, and nothing while nobody does.

    Attributes:
        made: what was made of the newest picture.
    """

    def __init__(self, name: str, encode: Callable[[Picture, bool], T], *, anew_s: float = 0.0) -> None:
        """Sets up; used inside one event loop, but for `offer`.

        Args:
            name: of its thread.
            encode: makes something of a picture, in that thread; told whether somebody cannot go on from the last.
            anew_s: seconds between two of which `encode` is told so.
        """
        self._wanted = asyncio.Event()
        self.made: Newest[T] = Newest(self._wanted.set)
        self._encode, self._anew_s = encode, anew_s
        self._offered: Picture | None = None
        self._is_anew = False
        self._anew_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def offer(self, picture: Picture) -> bool:
        """Takes the newest picture, from any thread; True where `wake` is then to be called in the event loop."""
        self._offered = picture
        return self.made.followers > 0

    def wake(self) -> None:
        self._wanted.set()

    def ask_anew(self) -> None:
        """Asks for a picture that can be shown without those before it, also where there is no newer one."""
        if self._timer is None and not self._is_anew:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._anew_at + self._anew_s), self._begin_anew)

    def _begin_anew(self) -> None:
        self._timer, self._is_anew = None, True
        self._anew_at = asyncio.get_running_loop().time()
        self._wanted.set()

    async def run(self) -> None:
        """Encodes until it is cancelled; raises what `encode` raises."""
        loop, before = asyncio.get_running_loop(), None
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            picture, anew = self._offered, self._is_anew or not self.made.has_value
            if picture is not None and self.made.followers and (anew or picture is not before):
                self._is_anew = False
                self.made.set(await loop.run_in_executor(self._thread, self._encode, picture, anew))
                before = picture

    def close(self) -> None:
        self._thread.shutdown()


def encode_jpeg(picture: Picture, anew: bool) -> bytes:
    """A JPEG as a part of the stream; its header says which frame it is, and when that was captured (`/clock`)."""
    ok, jpeg = cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not ok:
        height, width = picture.image.shape[:2]
        raise OutputError(
            f"pictures of {height}x{width} are too large for the page: JPEG ends at 65500; leave --web out"
        )
    head = (
        f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
        f"X-Frame-Index: {picture.index}\r\nX-Captured-At: {picture.captured_at:.6f}\r\n\r\n"
    )
    return b"".join((head.encode(), jpeg.tobytes(), b"\r\n"))


@dataclass(frozen=True)
class Moving:
    """A picture of a video.

    Attributes:
        number: counts the pictures of all videos, by one.
        key: number of the newest key frame, from which on each is needed.
        video: its head and codec; another one where the size has changed.
        index: that of the frame that it shows.
        captured_at: the time of that frame's capture.
    """

    number: int
    key: int
    video: FragmentEncoder
    fragment: Fragment
    index: int
    captured_at: float


class MovingEncoder:
    """Encodes pictures as H.264; starts over where their size changes."""

    def __init__(self) -> None:
        self._video: FragmentEncoder | None = None
        self._number = self._key = 0
        self._key_s = 0.0

    def __call__(self, picture: Picture, anew: bool) -> Moving | OutputError:
        """The error where there can be no video of it: it must not end what can be watched in another form."""
        now = perf_counter()  # a held picture is shown again, later
        size_hw = picture.image.shape[0], picture.image.shape[1]
        try:
            if self._video is None or self._video.size_hw != size_hw:
                self._video = FragmentEncoder(size_hw)
            fragment = self._video.encode(picture.image, now, key=anew or now - self._key_s >= _KEY_S)
        except OutputError as error:
            return error
        self._number += 1
        if fragment.is_key:
            self._key, self._key_s = self._number, now
        return Moving(self._number, self._key, self._video, fragment, picture.index, picture.captured_at)
