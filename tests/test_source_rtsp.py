"""RTSP over TCP: read, logged in to, lost and back, as seen by `rtseg-cam`."""

import json
from pathlib import Path

import av
import pytest
from fakes import make_network
from odd_media import number_of
from rtsp_server import Session, pictures, serving_rtsp, silence
from test_live_outages import cam
from waits import HANGS_S

from rtseg.apps.cam import app
from rtseg.core.errors import InputError
from rtseg.sources.base import Source
from rtseg.sources.open import open_source
from rtseg.sources.video import VideoSource


def test_a_stream_is_read_over_tcp_with_its_own_times() -> None:
    with serving_rtsp(pictures(0, 12)) as (port, asked), open_source(f"rtsp://127.0.0.1:{port}/live") as source:
        assert source.live
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == [*range(12)]
    assert [frame.timestamp_s for frame in frames] == pytest.approx([n / 25 for n in range(12)], abs=0.001)
    assert [line.split()[0] for line in asked][:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


def test_a_camera_with_a_password_is_logged_in_to_and_a_wrong_one_is_not_told() -> None:
    with serving_rtsp(pictures(0, 3), login="admin:pa#ss") as (port, _):
        with open_source(f"rtsp://admin:pa%23ss@127.0.0.1:{port}/live") as source:
            assert number_of(next(source).image) == 0
            assert "pa%23ss" not in source.name
        with pytest.raises(InputError, match="401") as caught:
            open_source(f"rtsp://admin:wrong@127.0.0.1:{port}/live")
    assert "wrong" not in str(caught.value)


def test_a_stream_that_falls_silent_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(session: Session) -> None:
        pictures(0, 60)(session)
        silence(session)

    opened = av.open

    def patiently(*arguments: str, timeout: tuple[float, float], **options: object) -> object:
        return opened(*arguments, timeout=(HANGS_S, timeout[1]), **options)  # type: ignore[call-overload]

    monkeypatch.setattr(av, "open", patiently)  # a busy machine is not a silent camera
    monkeypatch.setattr(VideoSource, "_start", lambda self, timeout_s: Source._start(self))
    with (
        serving_rtsp(stall) as (port, _),
        open_source(f"rtsp://127.0.0.1:{port}/live", timeout_s=0.3) as source,
        pytest.raises(InputError, match=r"sent nothing for 0\.3 s"),
    ):
        list(source)


def test_a_camera_that_was_restarted_comes_back_with_another_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, report = make_network(tmp_path), tmp_path / "report.json"
    with serving_rtsp(pictures(0, 8), pictures(8, 10_000, (96, 144))) as (port, _):
        url = f"rtsp://user:secret@127.0.0.1:{port}/live"
        code = cam(app, "--source", url, "--model", str(network), "--json", str(report), "--reconnect", str(HANGS_S),
                   "--record", str(tmp_path / "run.mp4"), "--frames", "12")  # fmt: skip
    told = json.loads(report.read_text())
    assert (code, told["frames"], told["outages"]) == (0, 12, 1)
    assert "secret" not in str(capsys.readouterr()) + report.read_text()
