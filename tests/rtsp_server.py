"""A small RTSP server for H.264 over TCP (RFC 2326, interleaved; RFC 6184, one NAL unit per packet)."""

import base64
import re
import socketserver
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
from odd_media import SIZE, numbered

RATE = 25
_CLOCK = 90_000

Say = Callable[["Session"], None]


class Session(socketserver.StreamRequestHandler):
    """Answers requests, then runs the next entry of `script`; repeats the last one."""

    script: list[Say]
    asked: list[str]
    login: str | None

    def handle(self) -> None:
        with suppress(OSError):  # the client has gone
            while request := self._request():
                self._answer(*request)
                if request[0] == "PLAY":
                    say = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                    say(self)
                    return

    def _request(self) -> tuple[str, dict[str, str]] | None:
        lines = []
        while line := self.rfile.readline().strip().decode():
            lines.append(line)
        if not lines:
            return None
        self.asked.append(lines[0])
        return lines[0].split()[0], dict(line.split(": ", 1) for line in lines[1:])

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        expected = self.login and "Basic " + base64.b64encode(self.login.encode()).decode()
        body, more = "", {"CSeq": headers["CSeq"]}
        status = "200 OK"
        if expected and method != "OPTIONS" and headers.get("Authorization") != expected:
            status, more["WWW-Authenticate"] = "401 Unauthorized", 'Basic realm="camera"'
        elif method == "DESCRIBE":
            body = "\r\n".join([
                "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "t=0 0", "m=video 0 RTP/AVP 96",
                f"a=rtpmap:96 H264/{_CLOCK}", "a=fmtp:96 packetization-mode=1", f"a=framerate:{RATE}",
                "a=control:track", "",
            ])  # fmt: skip
            more |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
        elif method in ("SETUP", "PLAY"):
            more |= {"Session": "1", "Transport": headers.get("Transport", "")}
        head = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        self.wfile.write(f"RTSP/1.0 {status}\r\n{head}\r\n{body}".encode())

    def send(self, nal: bytes, ticks: int, number: int, last: bool) -> None:
        """One NAL unit in an RTP packet of channel 0; `last` of its picture."""
        head = struct.pack(">BBHII", 0x80, 96 | last << 7, number & 0xFFFF, ticks & 0xFFFFFFFF, 1)
        self.wfile.write(struct.pack(">cBH", b"$", 0, len(head) + len(nal)) + head + nal)


def nal_units(numbers: Iterable[int], size_hw: tuple[int, int] = SIZE) -> Iterator[list[bytes]]:
    """The NAL units of each of these numbered pictures, all key frames."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *size_hw, "yuv420p"  # type: ignore[attr-defined]
    encoder.options, encoder.time_base = {"tune": "zerolatency", "g": "1"}, Fraction(1, RATE)
    for number in numbers:
        frame = av.VideoFrame.from_ndarray(numbered(number, size_hw), format="bgr24").reformat(format="yuv420p")
        (packet,) = encoder.encode(frame)  # type: ignore[attr-defined]
        yield [nal for nal in re.split(rb"\x00{2,3}\x01", bytes(packet)) if nal]


def pictures(first: int, count: int, size_hw: tuple[int, int] = SIZE) -> Say:
    """Sends numbered pictures with timestamps at their rate, then closes the connection."""

    def say(session: Session) -> None:
        packets = 0
        for place, units in enumerate(nal_units(range(first, first + count), size_hw)):
            for nal in units:
                session.send(nal, place * _CLOCK // RATE, packets, nal is units[-1])
                packets += 1

    return say


def silence(session: Session) -> None:
    """Keeps the connection open, silently, until the client leaves."""
    session.rfile.read()


@contextmanager
def serving_rtsp(*script: Say, login: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """The port, and the first line of each request."""
    asked: list[str] = []
    handler = type("Scripted", (Session,), {"script": list(script), "asked": asked, "login": login})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
