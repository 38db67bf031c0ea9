"""Live streams over HTTP that stop, change and return, as seen by `rtseg-cam`."""

import http.server
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import av
import cv2
import pytest
from cyclopts import App
from fakes import make_network
from loopback import QuietHandler, serving
from odd_media import numbered

from rtseg.apps._console import run
from rtseg.apps.cam import app

Send = Callable[[http.server.BaseHTTPRequestHandler], None]


def pictures(first: int, count: int, factor: int = 1) -> Send:
    """Sends numbered pictures as MJPEG, then closes the connection."""

    def send(handler: http.server.BaseHTTPRequestHandler) -> None:
        for number in range(first, first + count):
            picture = numbered(number)
            picture = cv2.resize(picture, None, fx=factor, fy=factor)
            data = cv2.imencode(".jpg", picture)[1].tobytes()
            head = b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
            handler.wfile.write(head + data)

    return send


def garbage(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 40\r\n\r\n" + b"\x00\xff" * 20)


class Camera(QuietHandler):
    """Each connection gets what the next entry of `script` sends; the last repeats; None refuses the connection."""

    script: list[Send | None]

    def do_GET(self) -> None:
        send = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if send is None:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
        self.end_headers()
        with suppress(OSError):  # the other side has gone
            send(self)


@pytest.fixture
def camera() -> Iterator[Callable[..., str]]:
    with ExitStack() as stack:

        def start(*script: Send | None) -> str:
            port = stack.enter_context(serving(type("Scripted", (Camera,), {"script": list(script)})))
            return f"http://user:secret@127.0.0.1:{port}/stream"

        yield start


def cam(app: App, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(app, [*arguments, "--no-window", "--engine", "onnxruntime", "--precision", "fp32", "--threads", "1"])
    return int(str(ended.value.code))


def test_a_camera_that_goes_comes_back_with_garbage_and_with_another_size(
    camera: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = camera(pictures(0, 8), garbage, pictures(40, 10_000, factor=2))
    network, recorded, report = make_network(tmp_path), tmp_path / "run.mp4", tmp_path / "report.json"
    code = cam(app, "--source", url, "--model", str(network), "--record", str(recorded), "--json", str(report),
               "--frames", "20")  # fmt: skip
    told = json.loads(report.read_text())
    assert (code, told["frames"], told["outages"]) == (0, 20, 1)
    with av.open(str(recorded)) as container:
        frames = [(frame.time, frame.height, frame.width) for frame in container.decode(video=0)]
    assert {frame[1:] for frame in frames} == {numbered(0).shape[:2]}
    assert len(frames) == 20
    assert [time for time, *_ in frames] == sorted(time for time, *_ in frames)
    assert "source lost 1 time" in capsys.readouterr().out


def test_a_camera_that_stays_away_ends_with_a_playable_part_and_the_code_of_an_input(
    camera: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, recorded = make_network(tmp_path), tmp_path / "run.mp4"
    code = cam(app, "--source", camera(pictures(0, 8), None), "--model", str(network), "--record", str(recorded),
               "--reconnect", "0.2")  # fmt: skip
    assert code == 3
    out, told = capsys.readouterr()
    assert "did not come back within 0.2 s" in told
    assert "secret" not in told
    assert "run.partial.mp4: the recording so far" in out.replace("\n", "")
    with av.open(str(tmp_path / "run.partial.mp4")) as container:
        assert 1 <= len(list(container.decode(video=0))) <= 8
