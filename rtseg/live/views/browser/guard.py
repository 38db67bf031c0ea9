"""Guards the page: who asks, by which host name, from which page, how much and how often."""

import hmac
from collections.abc import Callable
from time import monotonic
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rtseg.live.views.browser.address import Listener

MOST_BYTES = 4096  # of a request's body
MOST_HEAD = 1 << 14  # bytes of its head
_RATE = 40.0  # requests a second from one address; a page asks for far less
_MOST_ADDRESSES = 256
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class Rates:
    """A token bucket of requests for each address: full at first, refilled at a steady rate."""

    def __init__(self, burst: float = 80.0, clock: Callable[[], float] = monotonic) -> None:
        self._burst, self._clock = burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def allow(self, address: str) -> bool:
        now = self._clock()
        left, at = self._buckets.pop(address, (self._burst, now))
        left = min(self._burst, left + (now - at) * _RATE)
        allowed = left >= 1
        self._buckets[address] = (left - allowed, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]  # the one that has not asked for the longest time
        return allowed


class Guard:
    """Refuses requests that are not allowed; every answer gets the security headers.

    Args:
        app: answers the allowed requests.
        listener: knows the server's names and token.
        rates: counts requests.
    """

    def __init__(self, app: ASGIApp, listener: Listener, rates: Rates) -> None:
        self._app, self._listener, self._rates = app, listener, rates
        self._cookie = f"rtseg-{listener.socket.getsockname()[1]}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(scope, Headers(scope=scope))
        extra = list(_HEADERS)
        if self._listener.token and scope["path"] == "/" and not refused:
            extra.append((b"set-cookie", self._new_cookie().encode()))

        async def guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await (refused or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        """The answer to a request that is refused; None if it is allowed."""
        client = scope.get("client") or ("", 0)
        if not self._rates.allow(client[0]):
            return _answer(429, "too many requests: wait a second", {"Retry-After": "1"})
        if sum(len(name) + len(value) for name, value in headers.raw) + len(scope["query_string"]) > MOST_HEAD:
            return _answer(431, f"the head of a request has at most {MOST_HEAD} bytes")
        if not self._listener.is_called(headers.get("host", "")):
            return _answer(421, "this server is not called that: use the address that rtseg-cam printed")
        if not _is_own_page(scope, headers):
            return _answer(403, "another page asked for this: open the address that rtseg-cam printed")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return _answer(413, f"a request has at most {MOST_BYTES} bytes")
        if not self._knows_token(scope, headers):
            return _answer(401, "this page needs its token: open the address that rtseg-cam printed")
        return None

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        """Whether the cookie has the token, or `?token=` in the address does (for the page and for stream players)."""
        token = self._listener.token
        if token is None:
            return True
        given = [cookie_parser(headers.get("cookie", "")).get(self._cookie, "")]
        if _method(scope) in ("GET", "HEAD"):
            given += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(hmac.compare_digest(text.encode(), token.encode()) for text in given)

    def _new_cookie(self) -> str:
        return f"{self._cookie}={self._listener.token}; Path=/; HttpOnly; SameSite=Strict"


def _is_own_page(scope: Scope, headers: Headers) -> bool:
    """Whether the request comes from the page itself or from no page; links elsewhere may only lead to the page."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{headers.get('host', '')}".lower():
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    return _method(scope) == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"


def _method(scope: Scope) -> str:
    return str(scope.get("method", "GET"))  # a WebSocket begins with a GET


def _answer(status: int, text: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(text + "\n", status, headers)
