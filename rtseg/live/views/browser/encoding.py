"""Encoders beside the loop, each with one slot for the newest picture: JPEG stream or H.264."""

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
_KEY_S = 2.0  # longest time between key frames; players can discard what came before one


@dataclass(frozen=True)
class Picture:
    """A frame's picture, uint8 BGR (H, W, 3); its capture time is in `perf_counter` seconds."""

    index: int
    captured_at: float
    image: np.ndarray


class Encoding(Generic[T]):
    """Encodes the newest picture once for all followers, and nothing while there are none.

    Attributes:
        made: the encoded newest picture.
    """

    def __init__(self, name: str, encode: Callable[[Picture, bool], T], *, anew_s: float = 0.0) -> None:
        """Sets up. Everything but `offer` is used inside one event loop.

        Args:
            name: name of its thread.
            encode: encodes a picture in that thread; its second argument is True if a follower cannot continue from the
                last picture.
            anew_s: least seconds between two calls with True.
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
        """Takes the newest picture, from any thread; True if `wake` must then be called in the event loop."""
        self._offered = picture
        return self.made.followers > 0

    def wake(self) -> None:
        self._wanted.set()

    def ask_anew(self) -> None:
        """Asks for a picture that can be shown without earlier ones, even if there is no newer one."""
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
    """A JPEG as a part of the stream; its header has the frame's index and its capture time (see `/clock`)."""
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
        number: counts the pictures of all videos.
        key: number of the newest key frame; a player needs every picture from there on.
        video: its head and codec; a new one starts when the size changes.
        index: the index of the frame that it shows.
        captured_at: when that frame was captured.
    """

    number: int
    key: int
    video: FragmentEncoder
    fragment: Fragment
    index: int
    captured_at: float


class MovingEncoder:
    """Encodes pictures as H.264; starts a new video when their size changes."""

    def __init__(self) -> None:
        self._video: FragmentEncoder | None = None
        self._number = self._key = 0
        self._key_s = 0.0

    def __call__(self, picture: Picture, anew: bool) -> Moving | OutputError:
        """Returns an error instead of a video that cannot be made: it must not end the other forms of watching."""
        now = perf_counter()  # a paused picture is shown again, later
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
