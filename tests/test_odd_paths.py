"""Inputs that are not files, broken links, hidden files, and outputs whose place is taken."""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_media import BandEngine, Video, cam_app, command, label, label_numbers, numbered, watch

import rtseg
from rtseg.core.labels import CAMVID11
from rtseg.sources.open import open_source


def test_a_pipe_is_refused_and_not_waited_for(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(bands / "a.mp4")
    assert label("a.mp4") == watch("a.mp4") == watch("/dev/zero") == 3
    assert capsys.readouterr().err.count("is a pipe, socket or device, not a file: save what it gives") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names there are Unicode")
def test_a_name_that_is_no_text_is_a_name(bands: Path) -> None:
    name = os.fsdecode(b"caf\xe9")  # Latin-1, which crashes OpenCV's process
    (bands / name).write_bytes(cv2.imencode(".png", numbered(5))[1].tobytes())
    assert label(name, save="labels") == watch(name) == 0
    made = bands / "out" / f"{name}_labels" / "000000.png"
    assert (cv2.imdecode(np.fromfile(made, np.uint8), cv2.IMREAD_UNCHANGED).shape) == (64, 96)


def test_a_file_is_looked_into_anew_once_it_has_changed(bands: Path) -> None:
    Video("a.mp4", frames=3).make(bands)
    place = bands / "a"
    place.write_bytes(cv2.imencode(".png", numbered(5))[1].tobytes())
    with open_source(place) as source:
        assert source.kind == "image"
    place.write_bytes((bands / "a.mp4").read_bytes())
    with open_source(place) as source:
        assert source.kind == "video"


def test_links_that_lead_nowhere_do_not_stop_the_other_inputs(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bands / "in"
    folder.mkdir()
    Video("a.mp4").make(folder)
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "self.mp4").symlink_to("self.mp4")
    (folder / "loop").symlink_to(".")
    for inputs in (["in"], ["in/a.mp4", "in/gone.mp4", "in/self.mp4"]):
        assert label(*inputs, save="labels") == 3
        said = capsys.readouterr().err
        assert said.startswith("error: 2 of 3 inputs failed: ")
        assert "no such file: in/gone.mp4" in said
        assert "cannot read in/self.mp4: Too many levels of symbolic links" in said
        assert label_numbers(bands / "out/a_labels") == {number: number for number in range(12)}


def test_pictures_that_are_no_files_are_named_and_do_not_stop_the_others(
    bands: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = bands / "in"
    folder.mkdir()
    for number in (1, 4):
        cv2.imwrite(str(folder / f"{number}.png"), numbered(number))
    (folder / "2.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "3.png")
    assert label("in", save="labels,summary") == watch("in") == 0
    assert label_numbers(bands / "out/in_labels") == {0: 1, 3: 4}
    assert '"corrupt": 2' in (bands / "out/in_summary.json").read_text()
    assert "in/2.png: No such file or directory" in caplog.text
    assert "in/3.png is a pipe, socket or device, not a file" in caplog.text


def test_hidden_pictures_are_passed_over(bands: Path, caplog: pytest.LogCaptureFixture) -> None:
    """macOS puts `._NAME` beside each file on other systems' disks."""
    folder = bands / "in"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.png", ".c.png")):
        cv2.imwrite(str(folder / name), numbered(number))
    (folder / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(500))
    assert label("in", save="labels") == watch("in") == 0
    assert label_numbers(bands / "out/in_labels") == {0: 0, 1: 1}
    assert caplog.text == ""
    (folder / "a.png").unlink()
    (folder / "b.png").unlink()
    assert watch("in") == 3


@pytest.mark.parametrize(
    ("taken", "said"),
    [("a.mp4", "is a folder, and overlay would be a file"), ("a_labels", "is a file, and labels would be a folder")],
)
def test_an_output_whose_place_is_taken_is_said_so(
    bands: Path, taken: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with the name of a file was 'there already'."""
    Video("a.mp4").make(bands)
    (bands / "out").mkdir()
    place = bands / "out" / taken
    place.mkdir() if "is a folder" in said else place.write_text("mine")
    assert label("a.mp4", save="overlay,labels") == 4
    assert f"{Path('out') / taken} {said} of that name: move it" in capsys.readouterr().err
    assert [path.name for path in (bands / "out").iterdir()] == [taken]


@pytest.mark.parametrize("name", ["a\0b.mp4", "\ud800.mp4"])
def test_what_no_file_can_be_called_is_said_so(bands: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (bands / "list.txt").write_text("a\0b.mp4\n")
    assert label("list.txt") == watch(name) == 3
    assert capsys.readouterr().err.count("error: no file can be called '") == 2


@pytest.mark.parametrize("spec", [None, True, 1.5, b"a.mp4", ["a.png"], numbered(1)])
def test_what_can_be_no_source_is_said_in_one_line(spec: object) -> None:
    with pytest.raises(rtseg.RtsegError, match=f"a source is a camera index .*, not {type(spec).__name__}$"):
        open_source(spec)  # type: ignore[arg-type]
    with pytest.raises(rtseg.RtsegError, match="fps 10 is not allowed"):
        open_source("synthetic", fps="10")  # type: ignore[arg-type]


def test_whole_numbers_of_any_kind_are_cameras_and_labels_are_arrays() -> None:
    with pytest.raises(rtseg.RtsegError, match="no camera 77"):
        open_source(np.int64(77))
    with pytest.raises(rtseg.RtsegError, match="labels must be an array, uint8, not NoneType"):
        rtseg.overlay(numbered(1), None, CAMVID11)  # type: ignore[arg-type]


def at_the_tenth_picture(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Calls something while the tenth picture is labelled."""
    label_one, calls = BandEngine._infer, count(1)

    def infer(self: BandEngine, image: np.ndarray) -> np.ndarray:
        if next(calls) == 10:
            happens()
        return label_one(self, image)  # type: ignore[no-any-return]

    monkeypatch.setattr(BandEngine, "_infer", infer)


def test_an_input_that_changes_in_mid_run_is_said_to(
    bands: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Video("a.mp4").make(bands)
    other = Video("b.mp4", sound="aac").make(bands)
    at_the_tenth_picture(monkeypatch, lambda: other.replace(bands / "a.mp4"))
    assert label("a.mp4") == 0
    assert "a.mp4 has changed since it was begun" in capsys.readouterr().out
    assert label("a.mp4", save="strip") == 4  # nothing is added to the outputs of another input


def test_a_folder_that_vanishes_in_mid_run_is_no_row_of_damaged_pictures(
    bands: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bands / "in"
    folder.mkdir()
    for number in range(40):
        cv2.imwrite(str(folder / f"{number}.png"), numbered(number))
    with monkeypatch.context() as patch:
        at_the_tenth_picture(patch, lambda: folder.rename(bands / "away"))
        assert label("in") == 3
    assert "folder in is gone: check the disk or the network drive" in capsys.readouterr().err
    (bands / "away").rename(folder)
    assert label("in") == 0
    assert label_numbers(bands / "out/in_labels") == {number: number for number in range(40)}


def test_a_recording_without_a_name_and_a_file_that_looks_like_an_option_are_one_line(
    bands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(cam_app, "--source", "synthetic", "--no-window", "--record", "") == 4
    assert "error: cannot write .: it is a folder; give a file name" in capsys.readouterr().err
    Video("-a.mp4").make(bands)
    assert label("-a.mp4") == 2
    assert "If you mean the file, write ./-a.mp4" in capsys.readouterr().err
