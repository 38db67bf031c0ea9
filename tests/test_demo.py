"""`make demo`: the settings it passes to `rtseg-cam`, and the files it leaves."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.apps import demo
from rtseg.apps.cam import CamOptions
from rtseg.core.frame import Frame
from rtseg.sinks.video import VideoSink


@pytest.mark.parametrize("display", [True, False])
def test_the_demo_records_and_opens_a_window_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], display: bool
) -> None:
    asked: list[CamOptions] = []

    def cam(options: CamOptions) -> None:
        asked.append(options)
        assert not Path("demo.mp4").exists()  # an older one could be mistaken for this run's
        with VideoSink(Path("demo.mp4"), (64, 96), 30.0) as sink:
            for index in range(9):
                grey = np.full((64, 96, 3), 20 * index, np.uint8)
                sink.write(Frame(grey, index, index / 30, 0.0), grey[..., 0], grey)

    monkeypatch.chdir(tmp_path)
    Path("demo.mp4").write_bytes(b"old")
    monkeypatch.setattr(demo, "cam", cam)
    monkeypatch.setattr("rtseg.sinks.window.gui_available", lambda: (display, "there is no display"))
    demo.demo()
    (options,) = asked
    assert (options.source, options.window) == ("synthetic", display)
    assert options.duration <= 10
    assert options.frames <= 300
    assert abs(int(cv2.imread("demo.png").mean()) - 80) < 4  # frame 4 of 9
    assert ("there is no display" in capsys.readouterr().out) != display
