"""What the server answers: the page's three files, the stream, the events, and commands to the loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from rtseg.core.errors import OutputError, RtsegError
from rtseg.live.views.browser.encoding import BOUNDARY, Encoding, Moving
from rtseg.live.views.browser.guard import MOST_BYTES
from rtseg.live.views.browser.newest import Newest
from rtseg.live.views.browser.watching import watch

MOST_VIEWERS = 16  # of the stream, and as many of the video and of the events
_BODY_S, _ANSWER_S = 5.0, 5.0
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/video.js": ("video.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

Ask = Callable[[dict[str, Any]], Awaitable[None]]
"""Passes a command to the loop; raises RtsegError if it cannot be done, TimeoutError if nobody took it."""


def make_app(
    pictures: Newest[bytes], video: Encoding[Moving | OutputError], states: Newest[dict[str, str]], ask: Ask
) -> Starlette:
    """The routes; no part of a request ever becomes part of a file name.

    Args:
        pictures: parts of the stream.
        video: pictures of the video.
        states: topic -> its newest JSON.
        ask: executes what a page asks for.
    """

    async def stream(request: Request) -> Response:
        media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return _followed(request, pictures, _parts(pictures), media_type)

    async def follow_video(socket: WebSocket) -> None:
        await watch(socket, video, MOST_VIEWERS)

    async def events(request: Request) -> Response:
        return _followed(request, states, _events(states), "text/event-stream")

    async def clock(request: Request) -> Response:
        return JSONResponse({"now": perf_counter()})

    async def control(request: Request) -> Response:
        try:
            command = await _command(request)
            await ask(command)
        except RtsegError as error:
            return JSONResponse({"error": str(error)}, 400)
        except ValueError as error:
            return JSONResponse({"error": f"this is no command: {error}"}, 400)
        except TimeoutError:
            return JSONResponse({"error": "rtseg-cam is busy: try again"}, 503)
        return JSONResponse({})

    return Starlette(
        routes=[
            *(Route(path, _file(name, kind)) for path, (name, kind) in _FILES.items()),
            Route("/stream.mjpg", stream),
            WebSocketRoute("/video", follow_video),
            Route("/events", events),
            Route("/clock", clock),
            Route("/control", control, methods=["POST"]),
        ]
    )


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """A route to a file; it is read once, here, and requests cannot name others."""
    content = (Path(__file__).parent / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


class _Followed(StreamingResponse):
    """A stream that counts as a viewer while it runs, however it ends."""

    newest: Newest[Any]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.newest.followed():
            await super().__call__(scope, receive, send)


def _followed(request: Request, newest: Newest[Any], content: AsyncIterator[bytes], media_type: str) -> Response:
    if request.method == "HEAD":
        return Response(media_type=media_type)
    if newest.followers >= MOST_VIEWERS:
        return Response("too many viewers: close one\n", 503, {"Retry-After": "5"}, "text/plain")
    response = _Followed(content, media_type=media_type)
    response.newest = newest
    return response


async def _parts(pictures: Newest[bytes]) -> AsyncIterator[bytes]:
    async for part in pictures.follow():
        yield part
        yield b""  # resumes once the part is on its way: only then is the next one chosen


async def _events(states: Newest[dict[str, str]]) -> AsyncIterator[bytes]:
    """Server-sent events: each topic whenever it has changed."""
    sent: dict[str, str] = {}
    async for topics in states.follow():
        changed = {topic: text for topic, text in topics.items() if sent.get(topic) != text}
        sent = topics
        yield "".join(f"event: {topic}\ndata: {text}\n\n" for topic, text in changed.items()).encode()
        yield b""


async def _command(request: Request) -> dict[str, Any]:
    """The body, a JSON object; raises ValueError for anything else, TimeoutError if it does not arrive."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ValueError("its type must be application/json")
    body = b""
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BYTES:
                    raise ValueError(f"it has more than {MOST_BYTES} bytes")
    except ClientDisconnect:
        raise ValueError("it was cut short") from None
    try:
        command = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(command, dict):
        raise ValueError("it must be an object")
    return command
