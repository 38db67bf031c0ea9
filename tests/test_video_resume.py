"""A batch that is killed, stopped or filled up goes on where it was, and gives what an uninterrupted run gives."""

import json
import signal
from pathlib import Path

import pytest
from batch_runs import finished, kill_at, same_outputs, segments_in, start
from videos import make_video

SAVE = "overlay,labels,areas"
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 s at 10 fps, a key frame every second: 24 segments."""
    return make_video(tmp_path_factory.mktemp("drive") / "drive.mp4", 360, (128, 192), 10, options={})


@pytest.fixture(scope="module")
def uninterrupted(drive: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    code, _, errors = finished(start(drive, "--output", out, "--model", tiny_model, "--save", SAVE, "--threads", "1"))
    assert code == 0, errors
    return out


def test_four_kills_change_nothing(drive: Path, uninterrupted: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    command = (drive, "--output", out, "--model", tiny_model, "--save", SAVE, "--threads", "1", "--json", report)
    kills = 0
    for seed, segments in enumerate((1, 5, 10, 16)):
        kills += kill_at(start(*command), out / "drive.partial", segments, seed)
        assert not (out / "drive.mp4").exists()
    assert kills == 4
    placed = segments_in(out / "drive.partial")
    code, _, errors = finished(start(*command))
    assert code == 0, errors
    same_outputs(uninterrupted, out, "drive")
    (entry,) = json.loads(report.read_text())["inputs"]
    assert entry["frames"] == 360
    assert entry["frames_of_earlier_runs"] >= (placed - 1) * 15  # the last may be in place and not be noted yet
