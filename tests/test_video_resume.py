"""A batch that is killed, stopped or out of space resumes, and yields the same as an uninterrupted run."""

import errno
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Self

import av
import av.error
import numpy as np
import pytest
from av.container import InputContainer
from av.video.stream import VideoStream
from batch_runs import finished, killed, same_outputs, segments_in, start
from fakes import fake_network  # noqa: F401 - a fixture
from test_source_span import VIDEOS, make
from videos import make_video

from rtseg.apps._console import run
from rtseg.apps.video import app
from rtseg.core.errors import OutputError
from rtseg.sinks.video import VideoSink
from rtseg.sources.video import VideoSource
from rtseg.sources.video_index import index_video

pytestmark = pytest.mark.slow

SAVE = "overlay,labels,areas,coco,cvat"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 s at 10 fps, a key frame every second: 30 segments."""
    return make_video(tmp_path_factory.mktemp("drive") / "drive.mp4", 360, (128, 192), 10, options={})


@pytest.fixture(scope="module")
def uninterrupted(drive: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    code, _, errors = finished(start(drive, "--output", out, "--model", tiny_model, "--save", SAVE, "--threads", "1"))
    assert code == 0, errors
    return out


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_four_kills_change_nothing(drive: Path, uninterrupted: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    command = (drive, "--output", out, "--model", tiny_model, "--save", SAVE, "--threads", "1", "--json", report)
    for segments, events in ((1, 0), (4, 3), (5, 7), (6, 11)):
        killed(segments, events, *command)
        assert not (out / "drive.mp4").exists()
    placed = segments_in(out / "drive.partial")
    code, _, errors = finished(start(*command))
    assert code == 0, errors
    same_outputs(uninterrupted, out, "drive")
    (entry,) = json.loads(report.read_text())["inputs"]
    assert entry["frames"] == 360
    assert entry["frames_of_earlier_runs"] >= (placed - 1) * 12  # the last may be in place but not recorded yet
    of_this_run = entry["frames"] - entry["frames_of_earlier_runs"]
    assert entry["fps"] == pytest.approx(of_this_run / entry["seconds"], rel=0.02)  # of this run, and they add up


def video(source: Path, out: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(app, [str(source), "--model", "fake", "--output", str(out), "--save", SAVE, *arguments])
    return ended.value.code


def break_at(monkeypatch: pytest.MonkeyPatch, frame_index: int, error: Exception) -> list[bool]:
    """Makes the sink fail at the listed frames, until the list is emptied."""
    original, broken = VideoSink.write, [True]

    def write(self, frame, labels, picture):  # type: ignore[no-untyped-def]
        if broken and frame.index >= frame_index:
            raise error
        original(self, frame, labels, picture)

    monkeypatch.setattr(VideoSink, "write", write)
    return broken


def twice(path: Path) -> Path:
    """Timestamps that jump back in the middle."""
    path.write_bytes(make(path, *VIDEOS["open.ts"], frames=150).read_bytes() * 2)
    return path


def damaged(path: Path) -> Path:
    """Noise in the middle of every fifth of the file."""
    content = bytearray(make(path, *VIDEOS["open.ts"], frames=300).read_bytes())
    noise = np.random.default_rng(0)
    for fifth in range(1, 5):
        place = len(content) * fifth // 5
        content[place : place + 600] = noise.bytes(600)
    path.write_bytes(content)
    return path


SOURCES = {
    **{name: lambda path, name=name: make(path, *VIDEOS[name], frames=150) for name in VIDEOS},
    "twice.ts": twice,
    "damaged.ts": damaged,
    "uneven.mkv": lambda path: make_video(
        path, 60, (48, 64), times_s=[0.5 + n / 10 + (n % 3) / 100 + (n > 20) * 4 for n in range(60)]
    ),
}


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("name", SOURCES)
def test_any_video_is_gone_on_with(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES[name](tmp_path / name)
    assert video(source, tmp_path / "whole") == 0
    for index in (95, 40):  # the first is beyond the end of short ones
        broken = break_at(monkeypatch, index, OutputError("this folder is gone"))
        if video(source, tmp_path / "out") == 4:
            assert segments_in(tmp_path / "out" / f"{source.stem}.partial") >= 1
            broken.clear()
            assert video(source, tmp_path / "out", "--json", str(tmp_path / "report.json")) == 0
            assert json.loads((tmp_path / "report.json").read_text())["inputs"][0]["frames_of_earlier_runs"] > 0
            break
        broken.clear()
    same_outputs(tmp_path / "whole", tmp_path / "out", source.stem)


@pytest.mark.usefixtures("fake_network")
def test_a_full_disk_stops_the_batch_and_leaves_it_resumable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (make_video(tmp_path / name, 60, (64, 96), 10) for name in ("a.mp4", "b.mp4"))
    cause = OSError(errno.ENOSPC, "No space left on device")
    full = OutputError("cannot write: the disk is full")
    full.__cause__ = cause
    broken = break_at(monkeypatch, 50, full)
    assert video(first, tmp_path / "out", str(second)) == 4
    assert "the disk is full" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.partial"]  # b was not started
    broken.clear()
    assert video(first, tmp_path / "out", str(second)) == 0
    assert video(first, tmp_path / "whole") == 0
    for path in list((tmp_path / "out").glob("b[._]*")):
        path.rename(tmp_path / path.name.replace("b", "c", 1))
    same_outputs(tmp_path / "whole", tmp_path / "out", "a")


@pytest.mark.usefixtures("fake_network")
def test_pictures_with_other_timestamps_than_their_packets_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "a.mp4", 60, (64, 96), 10)
    assert video(source, tmp_path / "whole") == 0

    def wrong(path: Path):  # type: ignore[no-untyped-def]
        index = index_video(path)
        assert index.pts is not None
        return replace(index, pts=index.pts + (np.arange(60) == 50))

    monkeypatch.setattr("rtseg.batch.plan.index_video", wrong)
    assert video(source, tmp_path / "out") == 0
    same_outputs(tmp_path / "whole", tmp_path / "out", "a")


@pytest.mark.usefixtures("fake_network")
def test_outputs_that_were_being_moved_are_moved_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_video(tmp_path / "a.mp4", 30, (64, 96), 10)
    assert video(source, tmp_path / "whole") == 0
    moved = []

    def one(made: Path, target: Path, names: set[str]) -> None:
        if moved:
            raise OSError(errno.EIO, "gone")
        moved.append(target)
        made.rename(target)

    with monkeypatch.context() as patched:
        patched.setattr("rtseg.batch.assemble.move_into_place", one)
        assert video(source, tmp_path / "out") == 4
    assert video(source, tmp_path / "out") == 0
    same_outputs(tmp_path / "whole", tmp_path / "out", "a")


@pytest.mark.usefixtures("fake_network")
def test_videos_are_on_the_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_video(tmp_path / "a.mp4", 30, (64, 96), 10)
    on_disk, named, fsync, replaced = set(), [], os.fsync, os.replace

    def flush(file: int) -> None:
        fsync(file)
        on_disk.add(os.fstat(file).st_ino)

    def rename(made: Path, target: Path) -> None:
        if made.suffix == ".mp4" and made.parent != target.parent:
            named.append(target.name)
            assert made.stat().st_ino in on_disk
        replaced(made, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    assert video(source, tmp_path / "out") == 0
    assert named == ["000000.mp4", "000001.mp4", "000002.mp4", "a.mp4"]


class BadSector:
    """A container that cannot be read beyond its fortieth packet."""

    def __init__(self, container: InputContainer) -> None:
        self._container = container

    def __getattr__(self, name: str) -> object:
        return getattr(self._container, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def demux(self, stream: VideoStream) -> Iterator[object]:
        yield from islice(self._container.demux(stream), 40)
        raise av.error.OSError(errno.EIO, "Input/output error")


@pytest.mark.usefixtures("fake_network")
def test_a_disk_that_fails_is_no_damaged_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_video(tmp_path / "a.mp4", 60, (64, 96), 10)
    assert video(source, tmp_path / "whole") == 0
    opened = VideoSource._container
    with monkeypatch.context() as patched:
        patched.setattr(VideoSource, "_container", lambda self: BadSector(opened(self)))
        assert video(source, tmp_path / "out") == 3
    assert "broke off: Input/output error; check the disk" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.partial"]
    assert video(source, tmp_path / "out") == 0
    same_outputs(tmp_path / "whole", tmp_path / "out", "a")
