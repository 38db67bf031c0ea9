"""Network streams: refused, silent, broken off, interrupted."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from loopback import QuietHandler, serving
from videos import make_video
from waits import HANGS_S, note_waits

from rtseg.core.errors import InputError
from rtseg.core.frame import Frame
from rtseg.sources.base import Source
from rtseg.sources.open import open_source
from rtseg.sources.video import VideoSource


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def patient_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frame may take a while: a busy machine is not a silent network."""
    monkeypatch.setattr(VideoSource, "_start", lambda self, timeout_s: Source._start(self))


@pytest.mark.usefixtures("patient_start")
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_url_that_never_answers_ends_at_the_time_out(silent_port: int, scheme: str) -> None:
    with pytest.raises(InputError, match=r"did not answer within 0\.2 s"):
        open_source(f"{scheme}://127.0.0.1:{silent_port}/live", timeout_s=0.2)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_url_that_refuses_is_one_line_without_the_password(scheme: str, silent_port: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(InputError, match="refused") as caught:
            open_source(f"{scheme}://user:secret@127.0.0.1:{port}/live", timeout_s=HANGS_S)
    assert "secret" not in str(caught.value)


class Streamer(QuietHandler):
    """Sends a transport stream without a length, then keeps the connection open and silent."""

    data = b""
    quiet = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        self.wfile.write(self.data)
        self.quiet.wait(HANGS_S)


@pytest.fixture
def stream_url(tmp_path: Path) -> Iterator[str]:
    Streamer.data = make_video(tmp_path / "a.ts", 30, options={}).read_bytes()
    Streamer.quiet = threading.Event()
    with serving(Streamer) as port:
        yield f"http://127.0.0.1:{port}/live.ts"
        Streamer.quiet.set()


@pytest.mark.usefixtures("patient_start")
def test_stream_that_falls_silent_ends_with_an_error(stream_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = av.open

    def patiently(*arguments: str, timeout: tuple[float, float], **options: object) -> object:
        return opened(*arguments, timeout=(HANGS_S, timeout[1]), **options)

    monkeypatch.setattr(av, "open", patiently)
    with open_source(stream_url, timeout_s=0.3) as source:
        assert source.live
        with pytest.raises(InputError, match=r"sent nothing for 0\.3 s"):
            list(source)


def test_interrupt_ends_a_read_that_waits(stream_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source(stream_url, timeout_s=HANGS_S) as source:
        got: list[Frame | None] = []

        def read_all() -> None:
            while got[-1:] != [None]:
                got.append(source.read())

        reader = threading.Thread(target=read_all)
        waits = note_waits(monkeypatch, source._ahead, reader)
        reader.start()
        assert waits.wait(HANGS_S)
        source.interrupt()
        reader.join()
        assert got[-1] is None
        assert source.read() is None


def test_a_server_that_does_not_say_how_long_a_file_is_gives_all_of_it(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "a.mp4", frames=25).read_bytes()

    class Ending(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(whole)  # then the connection is closed, which FFmpeg reports as an error

    with serving(Ending) as port, open_source(f"http://127.0.0.1:{port}/a.mp4", timeout_s=HANGS_S) as source:
        assert [frame.index for frame in source] == [*range(25)]
        assert source.corrupt == 0
