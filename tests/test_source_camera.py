"""Cameras, with a fake device."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.core.errors import InputError
from rtseg.sources import camera as source_camera
from rtseg.sources.camera import list_cameras
from rtseg.sources.open import open_source


class FakeCapture:
    """Replaces cv2.VideoCapture: three frames with a gap, then nothing."""

    def __init__(self, index: int) -> None:
        self.reads = 0
        self.settings: dict[int, float] = {}
        self.released = False

    def isOpened(self) -> bool:
        return True

    def set(self, setting: int, value: float) -> bool:
        self.settings[setting] = value
        return True

    def get(self, setting: int) -> float:
        return self.settings.get(setting, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.reads += 1
        if self.reads in (1, 2, 4):
            return True, np.full((4, 6), self.reads, np.uint8)  # a grey camera
        return False, None

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(source_camera, "_DEVICES", tmp_path)
    monkeypatch.setattr(source_camera, "_NAMES", tmp_path / "names")
    monkeypatch.setattr("sys.platform", "linux")
    return tmp_path


def test_absent_camera_is_one_line_with_the_way_on(camera_devices: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"no camera 0: .*try --source synthetic, or rtseg-cam --list-cameras"):
        open_source("0")
    assert capfd.readouterr().err == ""


def test_a_number_that_names_a_folder_too_is_told_how_to_name_it(
    camera_devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(camera_devices)
    Path("2024").mkdir()
    cv2.imwrite("2024/a.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(InputError, match=r"no camera 2024: .*; for the file or folder of that name write \./2024$"):
        open_source("2024")
    with open_source("./2024") as source:
        assert source.kind == "images"


def test_camera_that_is_there_but_cannot_be_opened_may_be_busy(
    camera_devices: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (camera_devices / "video93").touch()
    with pytest.raises(InputError, match="camera 93 cannot be opened: it is busy"):
        open_source(93)
    assert capfd.readouterr().err == ""


def test_camera_asks_for_its_settings_and_ends_when_it_is_unplugged(
    camera_devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (camera_devices / "video0").touch()
    captures: list[FakeCapture] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: captures.append(FakeCapture(index)) or captures[-1])
    with open_source("0", camera_size=(480, 640), fps=25) as source:
        assert (source.kind, source.live, source.fps, source.size_hw) == ("camera", True, 25.0, (4, 6))
        frames = [source.read() for _ in range(3)]
        with pytest.raises(InputError, match="unplugged"):
            source.read()
    settings = captures[0].settings
    assert settings[cv2.CAP_PROP_FRAME_HEIGHT] == 480
    assert settings[cv2.CAP_PROP_FRAME_WIDTH] == 640
    assert settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert [frame.index for frame in frames if frame] == [0, 1, 3]  # the missed read counts
    assert all(frame is not None and frame.image.shape == (4, 6, 3) for frame in frames)
    assert captures[0].released


def test_list_cameras_names_those_that_open(camera_devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_cameras() == []
    for index in (0, 2, 12):
        (camera_devices / f"video{index}").touch()
    (camera_devices / "names" / "video2").mkdir(parents=True)
    (camera_devices / "names" / "video2" / "name").write_text("Laptop Camera\n")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    assert [(camera.index, camera.name) for camera in list_cameras()] == [(0, "camera 0"), (2, "Laptop Camera")]
