"""Clients of the page's server: plain requests, and viewers of the pictures, the events and the video."""

import json
import socket
from contextlib import contextmanager
from http.client import HTTPConnection

import cv2
import numpy as np
from waits import HANGS_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rtseg.live.views.browser.address import Address, Listener
from rtseg.live.views.browser.guard import Rates
from rtseg.live.views.browser.server import Server


@contextmanager
def serving(host="127.0.0.1", rates=None):
    """A server on a free local port, and its listener; without a limit on requests by default."""
    listener = Listener(Address(host))
    server = Server(listener, rates or Rates(burst=1e9))
    server.port = listener.socket.getsockname()[1]
    try:
        yield server, listener
    finally:
        server.close()


def request(port, method="GET", path="/", headers=None, body=None):
    """(status, headers, body) of one request; a dictionary is sent as JSON."""
    connection = HTTPConnection("127.0.0.1", port, timeout=HANGS_S)
    headers = dict(headers or {})
    if isinstance(body, dict):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class Viewer:
    """Follows /stream.mjpg or /events on its own connection."""

    def __init__(self, port, path="/stream.mjpg", *, receive_buffer=None):
        self._socket = socket.socket()
        self._socket.settimeout(HANGS_S)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        self._read = self._socket.makefile("rb")
        self.status = int(self._read.readline().split()[1])
        while self._read.readline() not in (b"\r\n", b""):
            pass
        self._rest = b""

    def _more(self):
        """The next chunk of the response (chunked transfer)."""
        size = int(self._read.readline() or b"0", 16)
        chunk = self._read.read(size)
        self._read.readline()
        if not size:
            raise EOFError
        return chunk

    def _until(self, end):
        while end not in self._rest:
            self._rest += self._more()
        found, _, self._rest = self._rest.partition(end)
        return found

    def picture(self):
        """(frame index, capture time, uint8 BGR picture) of the next part."""
        head = dict(line.split(": ", 1) for line in self._until(b"\r\n\r\n").decode().split("\r\n") if ": " in line)
        size = int(head["Content-Length"])
        while len(self._rest) < size + 2:
            self._rest += self._more()
        jpeg, self._rest = self._rest[:size], self._rest[size + 2 :]
        return int(head["X-Frame-Index"]), float(head["X-Captured-At"]), cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)

    def read_to_end(self):
        """Reads until the server has closed the connection."""
        try:
            while self._socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass

    def event(self, topic=None):
        """(topic, content) of the next event, or of the next one with `topic`."""
        while True:
            lines = dict(line.split(": ", 1) for line in self._until(b"\n\n").decode().split("\n"))
            if topic in (None, lines["event"]):
                return lines["event"], json.loads(lines["data"])

    def close(self):
        self._read.close()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class VideoViewer:
    """Follows /video on its own WebSocket.

    Attributes:
        heads: (codec, header) of each video that has begun.
    """

    def __init__(self, port, *, answers=True, **options):
        """`answers`: whether to acknowledge each picture automatically; `options` are those of `connect`."""
        self._answers = answers
        self.heads = []
        address = f"ws://127.0.0.1:{port}/video"
        self._connecting = connect(address, open_timeout=HANGS_S, close_timeout=HANGS_S, **options)
        self._socket = self._connecting.__enter__()

    def picture(self):
        """(fragment, its description) of the next picture."""
        message = self._socket.recv(HANGS_S)
        if isinstance(message, str):  # a video begins
            self.heads.append((json.loads(message)["codec"], self._socket.recv(HANGS_S)))
            message = self._socket.recv(HANGS_S)
        about = json.loads(self._socket.recv(HANGS_S))
        if self._answers:
            self.send(str(about["number"]))
        return message, about

    def send(self, message):
        self._socket.send(message)

    def end(self):
        """(code, reason) with which the server closes it."""
        while True:
            try:
                self.picture()
            except ConnectionClosed as closed:
                return closed.rcvd and (closed.rcvd.code, closed.rcvd.reason)

    def vanish(self):
        """Disconnects without a word."""
        self._socket.socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._connecting.__exit__(None, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
