"""The video for a browser: fragments over a WebSocket, as fast as the reader acknowledges them."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from rtseg.core.errors import OutputError
from rtseg.live.views.browser.encoding import Encoding, Moving

_LATE_S = 0.3  # how much slower than its best time a reader may be
_FIRST_S = 1.0  # the best time assumed until it has answered
_NO_VIDEO, _NO_ACKNOWLEDGEMENT = 4000, 1008  # close codes; the first is our own (RFC 6455, 7.4.2)


class Pace:
    """Measures by its acknowledgements how far a reader is behind.

    Buffers on the way hold older pictures than any slot here, so their delay is what counts.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._sent: deque[tuple[int, float]] = deque()
        self._best_s = _FIRST_S
        self._heard = asyncio.Event()

    def sent(self, number: int) -> None:
        self._sent.append((number, self._clock()))

    def acknowledge(self, number: int) -> None:
        """Takes an acknowledgement; raises ValueError if it is not the one that is expected."""
        if not self._sent or self._sent[0][0] != number:
            raise ValueError(f"{number} is not what was sent")
        self._best_s = min(self._best_s, self._clock() - self._sent.popleft()[1])
        self._heard.set()

    @property
    def is_late(self) -> bool:
        return bool(self._sent) and self._clock() - self._sent[0][1] > self._best_s + _LATE_S

    async def keep(self) -> None:
        """Waits while the reader is late."""
        while self.is_late:
            self._heard.clear()
            await self._heard.wait()


async def watch(socket: WebSocket, pictures: Encoding[Moving | OutputError], most: int) -> None:
    """Serves one reader.

    Each time the video begins or changes, the reader gets a text message with its codec and a binary one with its head.
    For each picture it gets a binary message with its fragment and a text one with the frame's index, which it answers
    with the picture's number. All binary messages in sequence form an MP4.

    Args:
        socket: not yet accepted.
        pictures: what to send.
        most: how many readers are allowed.
    """
    if pictures.made.followers >= most:
        refusal = PlainTextResponse("too many viewers: close one\n", 503, {"Retry-After": "5"})
        await socket.send_denial_response(refusal)
        return
    with pictures.made.followed():
        await socket.accept()
        pace = Pace()
        sending = asyncio.create_task(_send(socket, pictures, pace))
        try:
            while True:
                pace.acknowledge(int(await socket.receive_text()))
        except (ValueError, KeyError, WebSocketDisconnect):  # KeyError: a binary message
            pass
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnect):
                await sending
        if socket.client_state is socket.application_state is WebSocketState.CONNECTED:
            await socket.close(_NO_ACKNOWLEDGEMENT, "answer each picture with its number")


async def _send(socket: WebSocket, pictures: Encoding[Moving | OutputError], pace: Pace) -> None:
    last, video, asked = 0, None, -1
    async for made in pictures.made.follow():
        if isinstance(made, OutputError):
            await socket.close(_NO_VIDEO, str(made)[:120])
            return
        if made.number != made.key and not (made.number == last + 1 and made.video is video):
            if asked != made.key:  # once per key frame
                asked = made.key
                pictures.ask_anew()
            continue
        if made.video is not video:
            video = made.video
            await socket.send_text(json.dumps({"codec": video.codec}))
            await socket.send_bytes(video.head)
        pace.sent(made.number)
        last = made.number
        await socket.send_bytes(made.fragment.data)
        await socket.send_text(_about(made))  # resumes once the fragment is on its way
        await pace.keep()


def _about(made: Moving) -> str:
    return json.dumps(
        {
            "number": made.number,
            "time": made.fragment.time_s,
            "frame": made.index,
            "captured_at": made.captured_at,
        }
    )
