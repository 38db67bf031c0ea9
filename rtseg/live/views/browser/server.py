"""The HTTP server in a thread of its own, and the encoder beside it: the loop never waits for either."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Thread
from typing import Any

import cv2
import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rtseg.core.errors import OutputError
from rtseg.live.views.browser.address import Listener
from rtseg.live.views.browser.guard import MOST_HEAD, Guard, Rates
from rtseg.live.views.browser.newest import Newest
from rtseg.live.views.browser.pages import make_app, picture_part

_QUALITY = 80
_MOST_CONNECTIONS = 64
_IDLE_S = 10.0  # for the head of a request, and until the next
_ANSWER_S = 5.0
_MOST_WAITING = 16  # commands; each waits for an answer
_ENDED = "rtseg-cam has ended"


@dataclass(frozen=True)
class Command:
    """What a page asks for, and where the answer goes."""

    what: dict[str, Any]
    done: Future[None]


@dataclass(frozen=True)
class _Picture:
    index: int
    captured_at: float
    image: np.ndarray


class _Connection(H11Protocol):
    """Holds no old pictures back, is cut where a request does not come to its end, and ends with the server."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # a picture is on its way before the next is chosen
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(_IDLE_S, self.transport.abort)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self.transport.abort()


class Server:
    """Serves the page until it is closed.

    Attributes:
        commands: what pages ask for; the loop takes them.
        error: what the server died of, if it did.
    """

    def __init__(self, listener: Listener, rates: Rates | None = None) -> None:
        self.commands: Queue[Command] = Queue(_MOST_WAITING)
        self.error: BaseException | None = None
        self._listener = listener
        self._ended = False
        self._offered: _Picture | None = None
        self._pictures: Newest[bytes] = Newest(lambda: self._wanted.set())
        self._states: Newest[dict[str, str]] = Newest()
        self._wanted = asyncio.Event()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="rtseg-web-encoder")
        app = Guard(make_app(self._pictures, self._states, self._ask), listener, rates or Rates())
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nobody may say that somebody else asks
                server_header=False,
                limit_concurrency=_MOST_CONNECTIONS,
                h11_max_incomplete_event_size=MOST_HEAD,
                timeout_keep_alive=round(_IDLE_S),
                timeout_graceful_shutdown=1,
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._run, name="rtseg-web", daemon=True)
        self._thread.start()

    # Called by the loop's thread

    @property
    def has_readers(self) -> bool:
        """Whether somebody follows the state."""
        return self._states.followers > 0

    def offer(self, index: int, captured_at: float, picture: np.ndarray) -> None:
        """Takes the newest picture; it is encoded only if somebody watches, and no newer one has come by then."""
        self._offered = _Picture(index, captured_at, picture)
        if self._pictures.followers:
            self._call(self._wanted.set)

    def publish(self, topics: dict[str, str]) -> None:
        """Takes the newest state: topic -> JSON."""
        self._call(self._states.set, topics)

    def close(self) -> None:
        """Ends the server and its threads; a second call does nothing."""
        self._ended = True
        while not self.commands.empty():
            done = self.commands.get_nowait().done
            if done.set_running_or_notify_cancel():
                done.set_exception(OutputError(_ENDED))
        self._end()
        self._thread.join()
        self._encoder.shutdown()
        self._listener.close()

    def _call(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(work, *arguments)
        except RuntimeError:  # the server has died; `error` says of what
            pass

    # In the server's thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        encoding = asyncio.create_task(self._encode())
        encoding.add_done_callback(lambda _: self._end())
        await self._uvicorn.serve(sockets=[self._listener.socket])
        encoding.cancel()
        with suppress(asyncio.CancelledError):
            await encoding

    def _end(self) -> None:
        self._uvicorn.should_exit = True

    async def _encode(self) -> None:
        """Encodes the newest picture, once for all, as often as there is a newer one and somebody who watches."""
        loop, before = asyncio.get_running_loop(), None
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            picture = self._offered
            fresh = picture is not before or not self._pictures.has_value
            if picture is not None and fresh and self._pictures.followers:
                self._pictures.set(await loop.run_in_executor(self._encoder, _part, picture))
                before = picture

    async def _ask(self, what: dict[str, Any]) -> None:
        if self._ended:
            raise OutputError(_ENDED)
        command = Command(what, Future())
        try:
            self.commands.put_nowait(command)
        except Full:
            raise TimeoutError from None
        await asyncio.wait_for(asyncio.wrap_future(command.done), _ANSWER_S)


def _part(picture: _Picture) -> bytes:
    ok, jpeg = cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not ok:
        height, width = picture.image.shape[:2]
        raise OutputError(
            f"pictures of {height}x{width} are too large for the page: JPEG ends at 65500; leave --web out"
        )
    return picture_part(picture.index, picture.captured_at, jpeg.tobytes())
