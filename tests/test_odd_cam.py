"""The videos of `test_odd_videos.py` through `rtseg-cam`: count, order, times, size and colour of what it records."""

from pathlib import Path

import pytest
from odd_media import Video, seen, watch
from test_odd_videos import VIDEOS

SOME = [pytest.param(video, id=video.name, marks=() if number % 6 == 0 else pytest.mark.slow)
        for number, video in enumerate(VIDEOS)]  # fmt: skip


@pytest.mark.parametrize("video", SOME)
def test_every_picture_is_recorded_in_its_place(
    video: Video, bands: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert watch(video.make(bands)) == 0
    assert capsys.readouterr().err + caplog.text == ""
    out = seen(bands / "out/cam.mp4")
    turned = video.rotation in (90, -90)
    assert out.size_hw == tuple(side + side % 2 for side in (video.size_hw[::-1] if turned else video.size_hw))
    assert out.times_s == pytest.approx(video.shown_s, abs=0.001)
    assert out.aspect == (1 / video.aspect if video.aspect and turned else video.aspect or 1)
    if not turned:
        assert out.numbers == list(range(video.frames))
        assert out.coloured
