"""Who may use the page's server, and how much: each case through a real server on a local port."""

import socket
import sys
import threading
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import numpy as np
import pytest
from fakes import loop_threads
from waits import HANGS_S
from web_clients import Viewer, request, serving

from rtseg.core.errors import OutputError, UsageError
from rtseg.live.views.browser import guard, pages, server
from rtseg.live.views.browser.address import PORT, Address, Listener
from rtseg.live.views.browser.guard import MOST_BYTES, SECURITY_HEADERS, Rates


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    before = loop_threads()
    yield
    assert loop_threads() == before


@pytest.fixture(scope="module")
def local():
    """The port of a local-only server."""
    with serving() as (made, _):
        yield made.port


@pytest.fixture(scope="module")
def remote():
    """The port of a server open to the network, and its token."""
    with serving("0.0.0.0") as (made, listener):
        yield made.port, listener.token


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8000", Address("127.0.0.1", 8000)),
        (":8000", Address("127.0.0.1", 8000)),
        ("0.0.0.0:8000", Address("0.0.0.0", 8000)),
        ("localhost:8000", Address("localhost", 8000)),
        ("[::1]:8000", Address("::1", 8000)),
    ],
)
def test_an_address(text, expected):
    assert Address.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "host", "0", "65536", "-1", "127.0.0.1:", "::1:8000", "http://a:80", "a/b:80", "a b:80", "u@h:80"]
)
def test_what_is_no_address(text):
    with pytest.raises(UsageError, match="give PORT or HOST:PORT"):
        Address.parse(text)


def test_by_itself_it_is_for_this_machine_and_without_a_token():
    listener = Listener(Address())
    host, port = listener.socket.getsockname()
    listener.close()
    assert host == "127.0.0.1"
    assert listener.url == f"http://127.0.0.1:{port}/"
    assert listener.token is None


def test_a_port_in_use_is_an_error_where_it_was_named_and_another_is_taken_where_not():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"--web 127.0.0.1:{port}: the port is in use"):
            Listener(Address("127.0.0.1", port))
    first, second = Listener(Address()), Listener(Address())  # at least one of them does not have the default port
    ports = {listener.socket.getsockname()[1] for listener in (first, second)}
    first.close()
    second.close()
    assert len(ports) == 2
    assert ports != {PORT}


@pytest.mark.parametrize(
    ("host", "words"), [("192.0.2.7", "127.0.0.1 serves this machine"), ("no.such.host.invalid", "is no address")]
)
def test_an_address_of_another_machine(host, words):
    with pytest.raises(OutputError, match=words):
        Listener(Address(host, 8000))


def test_the_link_has_a_token_that_is_new_each_time(remote):
    with serving("0.0.0.0") as (_, other):
        assert other.url.endswith(f"/?token={other.token}")
        assert "0.0.0.0" not in other.url
        assert len(other.token) >= 32
        assert other.token != remote[1]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1", 200),  # a tunnel has another port
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("127.9.9.9", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:80", 421),
        ("192.0.2.7", 421),
        ("", 421),
        ("localhost@evil.example", 421),
        ("localhost:80:80", 421),
    ],
)
def test_a_server_for_this_machine_has_this_machine_s_names(local, host, status):
    """DNS rebinding: a page on evil.example whose name resolves to this machine."""
    assert request(local, headers={"Host": host})[0] == status


@pytest.mark.parametrize(
    ("host", "status"), [("192.0.2.7:80", 200), (socket.gethostname(), 200), ("evil.example", 421)]
)
def test_a_server_for_the_network_is_called_by_address_or_by_the_machine_s_name(remote, host, status):
    port, token = remote
    assert request(port, path=f"/?token={token}", headers={"Host": host})[0] == status


@pytest.mark.parametrize("path", ["/", "/page.js", "/stream.mjpg", "/events", "/clock", "/nothing"])
def test_without_the_token_nothing_comes_through(remote, path):
    port, token = remote
    for wrong in ("", "?token=", f"?token={token}x", f"?token={token[:-1]}", "?token=%E2%82%AC"):
        assert request(port, path=path + wrong)[0] == 401
    assert request(port, path=path, headers={"Cookie": f"rtseg-{port}={token[::-1]}"})[0] == 401


def test_the_token_opens_the_page_and_its_cookie_the_rest(remote):
    port, token = remote
    status, headers, _ = request(port, path=f"/?token={token}")
    assert status == 200
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
    assert request(port, path="/clock", headers={"Cookie": f"other=1; {cookie}"})[0] == 200
    assert request(port, path="/clock", headers={"Cookie": f'odd={{"a": [1]}}; ; x; {cookie}'})[0] == 200
    assert request(port, path="/clock", headers={"Cookie": cookie.replace("-", "_", 1)})[0] == 401  # another port's
    assert request(port, path=f"/clock?token={token}")[0] == 200  # for players, which keep no cookies
    assert "Set-Cookie" not in request(port, path=f"/clock?token={token}")[1]


def test_a_command_needs_the_cookie(remote):
    port, token = remote
    assert request(port, "POST", f"/control?token={token}", body={"key": "v"})[0] == 401


def test_tokens_are_compared_in_constant_time(remote, monkeypatch):
    compared = []
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda a, b: bool(compared.append((a, b))))
    request(remote[0], path="/?token=guess")
    assert compared == [(b"", remote[1].encode()), (b"guess", remote[1].encode())]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/clock", {"Origin": "http://127.0.0.1:{port}"}, 200),
        ("GET", "/clock", {"Origin": "http://evil.example"}, 403),
        ("GET", "/clock", {"Origin": "null"}, 403),
        ("GET", "/clock", {"Origin": "http://127.0.0.1:1"}, 403),  # a page of another program on this machine
        ("POST", "/control", {"Origin": "http://evil.example"}, 403),
        ("POST", "/control", {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "/stream.mjpg", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", "/clock", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link
        ("GET", "/clock", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", "/", {"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_another_page_can_ask_for_nothing(local, method, path, headers, status):
    headers = {name: value.format(port=local) for name, value in headers.items()}
    assert request(local, method, path, headers, {"key": "v"} if method == "POST" else None)[0] == status


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"x" * (MOST_BYTES + 1), {}, 413, "at most 4096 bytes"),
        (iter([b"[" * 3000, b"[" * 3000]), {}, 400, "more than 4096 bytes"),  # chunked: without a length
        (b"[" * MOST_BYTES, {}, 400, "no command"),
        (b'{"key": "v"}', {"Content-Type": "text/plain"}, 400, "application/json"),  # forms can send this
        (b"not json", {}, 400, "no command"),
        (b"\xff\xfe", {}, 400, "no command"),
        (b'"text"', {}, 400, "must be an object"),
        (b"", {}, 400, "no command"),
        (b"", {"Content-Length": "-1"}, 400, ""),  # no body: data after such a header resets the connection
    ],
)
def test_what_is_no_command(local, body, headers, status, words):
    answer = request(local, "POST", "/control", {"Content-Type": "application/json", **headers}, body)
    assert answer[0] == status
    assert words in answer[2].decode()


def test_a_head_that_is_too_long_is_refused(local):
    assert request(local, headers={"X-Long": "x" * 40_000})[0] == 431
    assert request(local, path="/?" + "x" * 40_000)[0] == 431
    with socket.create_connection(("127.0.0.1", local), timeout=HANGS_S) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 17_000)
        assert endless.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST /control HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_request_that_does_not_end_is_cut(local, begun, monkeypatch):
    monkeypatch.setattr(server, "_IDLE_S", 0.05)
    with socket.create_connection(("127.0.0.1", local), timeout=HANGS_S) as slow:
        slow.sendall(begun)
        with suppress(ConnectionResetError):
            assert slow.recv(1) == b""


def test_a_body_that_does_not_end_is_cut(local, monkeypatch):
    monkeypatch.setattr(pages, "_BODY_S", 0.05)
    lines = ["POST /control HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Content-Length: 9"]
    with socket.create_connection(("127.0.0.1", local), timeout=HANGS_S) as slow:
        slow.sendall("\r\n".join([*lines, "", "{"]).encode())
        assert slow.recv(12) == b"HTTP/1.1 503"


def test_rates_are_limited_for_each_address():
    now = 0.0
    rates = Rates(3, lambda: now)
    assert [rates.allow("a") for _ in range(4)] == [True, True, True, False]
    assert rates.allow("b")
    now = 2 / guard._RATE
    assert [rates.allow("a") for _ in range(3)] == [True, True, False]
    for number in range(1000):
        rates.allow(str(number))
    assert len(rates._buckets) <= guard._MOST_ADDRESSES


@pytest.fixture
def hurried():
    """The port of a server with a budget of three requests: its clock stands still, so none is replenished."""
    with serving(rates=Rates(3, lambda: 0.0)) as (made, _):
        yield made.port


def test_too_many_requests_are_refused(hurried):
    assert [request(hurried, path="/clock")[0] for _ in range(4)] == [200, 200, 200, 429]
    assert request(hurried)[1]["Retry-After"] == "1"


def test_viewers_are_limited(monkeypatch):
    monkeypatch.setattr(pages, "MOST_VIEWERS", 2)
    with serving() as (made, _), ExitStack() as stack:
        paths = ["/stream.mjpg"] * 3 + ["/events"]
        viewers = [stack.enter_context(Viewer(made.port, path)) for path in paths]
        assert [viewer.status for viewer in viewers] == [200, 200, 503, 200]


def test_connections_are_limited(monkeypatch):
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 3)
    with serving() as (made, _), Viewer(made.port), Viewer(made.port):
        assert request(made.port)[0] == 503


ODD_PATHS = ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/page.js/../../server.py", "//etc/passwd",
             "/index.html", "/server.py", "/..%5c..%5cx", "/%00", "/page.js%00.html", "/stream.mjpg/x"]  # fmt: skip


def test_no_request_reaches_the_file_system(local):
    opened = []

    def audit(event, arguments):
        served = threading.current_thread().name == "rtseg-web"
        if watching and served and event in ("open", "os.listdir", "os.scandir"):
            opened.append(arguments)

    watching = True
    sys.addaudithook(audit)
    try:
        assert {request(local, path=path)[0] for path in ODD_PATHS} == {404}
        assert [request(local, path=path)[0] for path in ("/", "/page.js", "/page.css", "/icon.svg")] == [200] * 4
        assert request(local, "PUT", "/page.js", body="x")[0] == 405
    finally:
        watching = False
    assert opened == []


def test_every_answer_has_the_security_headers(local, remote, hurried):
    answers = [
        request(local),
        request(local, path="/page.js"),
        request(local, path="/nothing"),
        request(local, headers={"Host": "evil.example"}),
        request(local, headers={"Origin": "http://evil.example"}),
        request(local, "POST", "/control", body={}, headers={"Content-Type": "text/plain"}),
        request(local, "DELETE"),
        request(remote[0]),
        *(request(hurried) for _ in range(4)),
    ]
    assert {answer[0] for answer in answers} == {200, 400, 401, 403, 404, 405, 421, 429}
    for _, headers, _ in answers:
        assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert headers["Server"] is None
    policy = dict(part.strip().split(" ", 1) for part in SECURITY_HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in SECURITY_HEADERS["Content-Security-Policy"]


def test_the_page_asks_nobody_else_and_has_no_script_or_style_in_line(local):
    page = request(local)[2].decode()
    assert "://" not in page
    assert " style=" not in page
    assert "<style" not in page
    assert page.count("<script") == page.count('<script src="page.js"') == 1
    assert "//" not in request(local, path="/page.css")[2].decode().replace("/*", "")


def test_a_connection_is_used_again(local):
    connection = HTTPConnection("127.0.0.1", local, timeout=HANGS_S)
    for _ in range(3):
        connection.request("GET", "/clock")
        assert connection.getresponse().read().startswith(b'{"now":')
    connection.close()


def test_a_picture_that_is_no_jpeg_ends_the_server_and_says_so():
    with serving() as (made, _), Viewer(made.port) as viewer:
        made.offer(0, 0.0, np.zeros((1, 70_000, 3), np.uint8))
        viewer.read_to_end()
        made._thread.join()
        assert isinstance(made.error, OutputError)
        assert "1x70000" in str(made.error)
