"""The HTTP server and the encoders, in their own threads: the loop never waits for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Thread
from typing import Any

import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from rtseg.core.errors import OutputError
from rtseg.live.views.browser.address import Listener
from rtseg.live.views.browser.encoding import Encoding, Moving, MovingEncoder, Picture, encode_jpeg
from rtseg.live.views.browser.guard import MOST_HEAD, Guard, Rates
from rtseg.live.views.browser.newest import Newest
from rtseg.live.views.browser.pages import make_app

_MOST_CONNECTIONS = 64
_IDLE_S = 10.0  # for the head of a request to arrive, and between requests
_ANSWER_S = 5.0
_MOST_WAITING = 16  # commands; each waits for an answer
_MOST_MESSAGE = 64  # bytes of a message received by WebSocket
_KEYS_APART_S = 0.5  # least time between key frames that readers ask for: they are larger, and everybody gets them
_ENDED = "rtseg-cam has ended"


@dataclass(frozen=True)
class Command:
    """A request from a page, and where the answer goes."""

    what: dict[str, Any]
    done: Future[None]


class _Connection(H11Protocol):
    """Buffers no old pictures, drops requests that do not finish, and ends with the server."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # a picture must be on its way before the next is chosen
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        if self.transport.get_protocol() is not self:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(_IDLE_S, self.transport.abort)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def handle_websocket_upgrade(self, event: Any) -> None:
        super().handle_websocket_upgrade(event)
        self._forget()  # from now on a `_Socket` takes the data

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self.transport.abort()


class _Socket(WebSocketsSansIOProtocol):
    """A WebSocket that ends with the server even if its reader does not read."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # it allows fewer and shorter headers than h11, without an error message
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()

    def shutdown(self) -> None:
        self.transport.abort()


class Server:
    """Serves the page until it is closed.

    Attributes:
        commands: requests from pages; the loop takes them.
        error: the error that ended the server, if any.
    """

    def __init__(self, listener: Listener, rates: Rates | None = None) -> None:
        self.commands: Queue[Command] = Queue(_MOST_WAITING)
        self.error: BaseException | None = None
        self._listener = listener
        self._ended = False
        self._pictures = Encoding("rtseg-web-jpeg", encode_jpeg)
        self._video: Encoding[Moving | OutputError] = Encoding("rtseg-web-video", MovingEncoder(), anew_s=_KEYS_APART_S)
        self._states: Newest[dict[str, str]] = Newest()
        app = Guard(make_app(self._pictures.made, self._video, self._states, self._ask), listener, rates or Rates())
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_Connection,
                ws=_Socket,
                ws_max_size=_MOST_MESSAGE,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # clients must not be able to fake their address
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
        """Whether anybody follows the state."""
        return self._states.followers > 0

    def offer(self, index: int, captured_at: float, picture: np.ndarray) -> None:
        """Takes the newest picture; it is encoded only if somebody watches and no newer one has arrived."""
        offered = Picture(index, captured_at, picture)
        for form in (self._pictures, self._video):
            if form.offer(offered):
                self._call(form.wake)

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
        self._pictures.close()
        self._video.close()
        self._listener.close()

    def _call(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(work, *arguments)
        except RuntimeError:  # the server has died; see `error`
            pass

    # In the server's thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        encoding = [asyncio.create_task(form.run()) for form in (self._pictures, self._video)]
        for task in encoding:
            task.add_done_callback(lambda _: self._end())
        await self._uvicorn.serve(sockets=[self._listener.socket])
        for task in encoding:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _end(self) -> None:
        self._uvicorn.should_exit = True

    async def _ask(self, what: dict[str, Any]) -> None:
        if self._ended:
            raise OutputError(_ENDED)
        command = Command(what, Future())
        try:
            self.commands.put_nowait(command)
        except Full:
            raise TimeoutError from None
        await asyncio.wait_for(asyncio.wrap_future(command.done), _ANSWER_S)
