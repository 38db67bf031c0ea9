"""Recordings that play whatever happens."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from sink_frames import RED, a_frame, a_picture, record

from rtseg.core.errors import OutputError, UsageError
from rtseg.core.frame import Frame
from rtseg.sinks import base as sinks
from rtseg.sinks.base import make_folder
from rtseg.sinks.video import VideoSink, exact_rate
from rtseg.sources.open import open_source


def played(path: Path) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def test_recording_is_what_browsers_play(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "new" / "a.mp4", (48, 64), 29.97, threads=1) as sink:
        record(sink, [n * 1001 / 30000 for n in range(45)])
        assert sink.partial_path.exists()
        assert not sink.path.exists()
    assert sink.frames == 45
    assert not sink.partial_path.exists()
    assert not sink.padded
    with av.open(str(sink.path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert container.duration == pytest.approx(45 * 1001 / 30000 * 1e6, abs=50_000)
    frames = played(sink.path)
    assert len(frames) == 45
    assert [f.timestamp_s for f in frames] == pytest.approx([n * 1001 / 30000 for n in range(45)], abs=1e-4)
    assert frames[20].image[24, 32] == pytest.approx(RED, abs=6)  # colours survive the round trip
    assert b"moof" in sink.path.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no colon in a name")
def test_any_name_that_a_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoSink(Path("12:31 %d 5% é.mp4"), (48, 64), 25) as sink:
        record(sink, [0.0, 0.04])
    assert [path.name for path in tmp_path.iterdir()] == ["12:31 %d 5% é.mp4"]
    assert len(played(sink.path)) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that is in use")
def test_only_a_recording_that_was_begun_is_said_to_be_kept(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "gone" / "a.mp4", (48, 64), 25)
    shutil.rmtree(sink.partial_path.parent)
    with pytest.raises(OutputError, match=r"No such file or directory$"):
        record(sink, [n / 25 for n in range(200)])
    assert sink.frames > 0  # x264 holds the first ones, and FFmpeg opens the file for what comes out
    sink.close()


def test_timestamps_are_kept_from_the_first_written_frame_on(tmp_path: Path) -> None:
    times = [10.0, 10.04, 10.5, 10.5, 12.0]
    with VideoSink(tmp_path / "a.mp4", (48, 64), 25) as sink:
        record(sink, times)
    assert [f.timestamp_s for f in played(sink.path)] == pytest.approx([0, 0.04, 0.5, 0.5, 2.0], abs=1e-3)


@pytest.mark.parametrize("size_hw", [(34, 48), (2, 64), (48, 62)])
def test_colours_are_right_at_every_size(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    with VideoSink(tmp_path / "a.mp4", size_hw, 10, crf=1) as sink:
        record(sink, [0.0, 0.1, 0.2], size_hw)
    assert np.abs(played(sink.path)[2].image.astype(int) - RED).max() <= 8


@pytest.mark.parametrize("size_hw", [(1, 1), (33, 47), (48, 63)])
def test_odd_sizes_are_padded_and_said_so(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    with VideoSink(tmp_path / "a.mp4", size_hw, 10) as sink:
        assert sink.padded
        record(sink, [0.0, 0.1, 0.2], size_hw)
    frames = played(sink.path)
    assert [f.size_hw for f in frames] == [tuple(side + side % 2 for side in size_hw)] * 3
    assert frames[0].image[-1, -1] == pytest.approx(RED, abs=12)  # the edge is repeated, not black


def test_a_picture_of_another_size_is_scaled_to_the_recording(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mp4", (48, 64), 10) as sink:
        sink.write(a_frame(), np.zeros((48, 64), np.uint8), a_picture((96, 30)))
    assert played(sink.path)[0].size_hw == (48, 64)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (29.97, Fraction(30000, 1001)),
        (30000 / 1001, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (25.0, Fraction(25)),
        (30.0, Fraction(30)),
        (12.5, Fraction(25, 2)),
        (0.5, Fraction(1, 2)),
        (1.0, Fraction(1)),
    ],
)
def test_rates_are_exact(fps: float, expected: Fraction) -> None:
    assert exact_rate(fps) == expected


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 1e4])
def test_impossible_rates_are_refused(fps: float) -> None:
    with pytest.raises(UsageError, match="not a frame rate"):
        exact_rate(fps)


@pytest.mark.parametrize("fps", [0.001, 0.5, 0.999, 1.0, 7.3, 29.97, 144.0])
def test_any_rate_can_be_recorded(tmp_path: Path, fps: float) -> None:
    with VideoSink(tmp_path / "a.mp4", (16, 16), fps) as sink:
        record(sink, [n / fps for n in range(4)], (16, 16))
    assert [f.timestamp_s for f in played(sink.path)] == pytest.approx([n / fps for n in range(4)], abs=1e-3)


def test_incomplete_recording_keeps_its_partial_name_and_plays(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("an older recording")
    sink = VideoSink(tmp_path / "a.mp4", (48, 64), 25)
    record(sink, [n / 25 for n in range(10)])
    sink.close(complete=False)
    sink.close()
    assert sink.path.read_text() == "an older recording"
    assert len(played(tmp_path / "a.partial.mp4")) == 10
    with pytest.raises(OutputError, match="is closed"):
        record(sink, [1.0])


def test_an_error_in_the_block_leaves_a_playable_part(tmp_path: Path) -> None:
    def fail_in_the_middle() -> None:
        with VideoSink(tmp_path / "a.mp4", (48, 64), 25) as sink:
            record(sink, [n / 25 for n in range(10)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.mp4"]
    assert len(played(tmp_path / "a.partial.mp4")) == 10


def test_a_recording_without_frames_leaves_nothing(tmp_path: Path) -> None:
    VideoSink(tmp_path / "a.mp4", (48, 64), 25).close()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import signal, sys, numpy as np
from pathlib import Path
from rtseg.core.frame import Frame
from rtseg.sinks.video import VideoSink
sink = VideoSink(Path(sys.argv[1]), (48, 64), 10, threads=1)
for index in range(100):
    picture = np.full((48, 64, 3), index, np.uint8)
    sink.write(Frame(picture, index, index / 10, 0.0), picture[..., 0], picture)
print("written", flush=True)
signal.pause()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_leaves_a_playable_recording(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["a.partial.mp4"]
    frames = played(tmp_path / "a.partial.mp4")
    assert 40 <= len(frames) <= 100  # frames still in x264, and the last second, are lost
    assert [frame.index for frame in frames] == list(range(len(frames)))


FULL_DISK = """
import resource, sys, numpy as np
from pathlib import Path
from rtseg.core.errors import OutputError
from rtseg.core.frame import Frame
from rtseg.sinks.video import VideoSink
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
noise = np.random.default_rng(0)
try:
    with VideoSink(Path(sys.argv[1]), (64, 96), 5, threads=1) as sink:
        for index in range(300):
            picture = noise.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            sink.write(Frame(picture, index, index / 5, 0.0), picture[..., 0], picture)
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_is_one_line_and_what_was_written_plays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot record {tmp_path / 'a.mp4'} at 64x96: the disk is full; what was written")
    assert done.stdout.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.mp4"]
    assert len(played(tmp_path / "a.partial.mp4")) > 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_from_the_start_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.partial.mp4").symlink_to("/dev/full")

    def run() -> None:
        with VideoSink(tmp_path / "a.mp4", (48, 64), 25) as sink:
            record(sink, [n / 25 for n in range(200)])

    with pytest.raises(OutputError, match="the disk is full"):
        run()
    assert not (tmp_path / "a.mp4").exists()


def _file_as_folder(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "a.mp4"


def _folder_as_file(folder: Path) -> Path:
    (folder / "a.mp4").mkdir()
    return folder / "a.mp4"


def _pipe_as_file(folder: Path) -> Path:
    os.mkfifo(folder / "a.mp4")  # replaces the file
    return folder / "a.mp4"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_pipe_as_file, "it is a pipe, socket or device"),
        (_file_as_folder, "cannot write in folder"),
        (_folder_as_file, "it is a folder"),
        (lambda folder: folder / "a.avi", r"recordings are MP4, name it .*a\.mp4"),
    ],
)
def test_places_that_cannot_take_a_recording(tmp_path: Path, make, expected: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(OutputError, match=expected):
        VideoSink(make(tmp_path), (48, 64), 25)


def test_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(sinks, "TemporaryFile", denied)  # root may write anywhere, so chmod would have no effect
    for make in (lambda: VideoSink(tmp_path / "a.mp4", (48, 64), 25), lambda: make_folder(tmp_path)):
        with pytest.raises(OutputError, match=r"cannot write in folder .*Permission denied"):
            make()


def test_two_recordings_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    pair = [VideoSink(tmp_path / f"{name}.mp4", (48, 64), 25, threads=1) for name in "ab"]
    threads = [threading.Thread(target=record, args=(sink, [n / 25 for n in range(20)])) for sink in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sink in pair:
        sink.close()
        assert len(played(sink.path)) == 20


def test_joinable_parts_are_one_closed_group_in_the_order_of_showing(tmp_path: Path) -> None:
    tick = Fraction(1001, 30000)
    with VideoSink(tmp_path / "a.mp4", (48, 64), 29.97, threads=1, time_base=tick, joinable=True) as sink:
        record(sink, [float((100 + index) * tick) for index in range(75)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.pts * packet.time_base for packet in packets] == [index * tick for index in range(75)]
    assert all(packet.pts == packet.dts for packet in packets)
    assert [packet.is_keyframe for packet in packets] == [True] + [False] * 74


def test_a_gap_that_mp4_cannot_hold_is_bridged(tmp_path: Path) -> None:
    times = [0.0, 0.1, 300_000.0, 300_000.1]  # as when a camera was away for days
    with VideoSink(tmp_path / "a.mp4", (48, 64), 30, threads=1) as sink:
        record(sink, times)
    assert sink.frames == 4
    shown = [frame.timestamp_s for frame in played(sink.path)]
    assert shown[:2] == pytest.approx(times[:2], abs=1e-4)
    assert shown[-2:] == pytest.approx(times[-2:], abs=1e-4)


@pytest.mark.parametrize("times", [[0.0, 3600.0, 7200.0, 7200.1], [5.0, 5.1, 3605.0, 3605.1, 3605.2], [0.0]])
def test_a_recording_begins_with_its_first_picture(tmp_path: Path, times: list[float]) -> None:
    """Players waited for as long as the first three pictures last: an hour, where a camera was away then."""
    with VideoSink(tmp_path / "a.mp4", (48, 64), 30, threads=1) as sink:
        record(sink, times)
    with av.open(str(sink.path)) as container:
        shown = sorted(float(frame.time) for frame in container.decode(video=0))
        assert container.start_time == 0
    assert shown == pytest.approx([time - times[0] for time in times], abs=1e-4)


def test_a_size_that_h264_does_not_know_is_said_so(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", (4, 16386), 30, threads=1)
    with pytest.raises(OutputError, match=r"H\.264 takes up to 16384 pixels a side"), sink:
        record(sink, [0.0], (4, 16386))
