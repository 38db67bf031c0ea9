"""Videos whose clocks, packets and streams are not what they seem, through `rtseg-video` and `rtseg-cam`."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest
from odd_makers import (
    cover_first,
    empty_chunks,
    jpegs_with_exif,
    leaping,
    packed_b_frames,
    restarted,
    two_streams,
    with_cover,
)
from odd_media import SIZE, Video, area_times, label, label_numbers, numbered, seen, sound_s, watch
from paff import field_coded

NUMBERS = list(range(12))


def times_of(path: Path) -> list[float]:
    return [time for _, time in area_times(path)]


@pytest.mark.parametrize("sound", ["aac", *(pytest.param(other, marks=pytest.mark.slow) for other in ("mp2", None))])
def test_a_clock_that_starts_again_goes_on_and_so_does_the_sound(
    bands: Path, sound: str | None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = restarted(bands / "a.ts", 3, sound)
    assert label(path) == 0
    assert "its clock restarts 2 times" in capsys.readouterr().out
    out = seen(bands / "out/a.mp4")
    assert out.numbers == [*range(25)] * 3
    # between two recordings there may be as much as one of them ends after the other
    assert out.times_s == pytest.approx([number / 25 for number in range(75)], abs=0.12)
    assert min(b - a for a, b in zip(out.times_s, out.times_s[1:], strict=False)) > 0.03
    if sound:
        assert out.sound_s == pytest.approx(3 * sound_s(bands / "once_a.ts"), abs=0.15)  # type: ignore[operator]
    assert times_of(bands / "out/a_areas.csv") == pytest.approx(out.times_s, abs=1e-4)
    assert watch(path) == 0
    assert "restarts its clock" in caplog.text
    assert seen(bands / "out/cam.mp4").times_s == pytest.approx(out.times_s, abs=1e-3)


@pytest.mark.parametrize("leap_s", [60, 20_000])
def test_a_clock_that_leaps_is_one_that_starts_again(bands: Path, leap_s: int) -> None:
    path = leaping(bands / "a.ts", leap_s)
    assert label(path) == 0
    out = seen(bands / "out/a.mp4")
    assert out.numbers == [*range(24)]
    assert out.times_s == pytest.approx([number / 25 for number in range(24)], abs=0.001)


def timed(path: Path, hours: float, per_second: int) -> Path:
    """Ten pictures at 25 fps, the last five of them late by the given number of hours."""
    times = [number / 25 + (3600 * hours if number >= 5 else 0) for number in range(10)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, per_second)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(time * per_second), Fraction(1, per_second)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_gap_that_mp4_cannot_hold_keeps_its_length(bands: Path) -> None:
    timed(bands / "a.nut", hours=1, per_second=1_000_000)  # 3.6e9 ticks
    assert label("a.nut") == 0
    out = seen(bands / "out/a.mp4")
    assert out.numbers == [*range(10)]
    late = [3600 if number >= 5 else 0 for number in range(10)]
    assert out.times_s == pytest.approx([number / 25 + late[number] for number in range(10)], abs=1e-4)
    assert times_of(bands / "out/a_areas.csv") == pytest.approx(out.times_s, abs=1e-4)


def test_any_clock_that_leaps_by_days_starts_again(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timed(bands / "a.mkv", hours=48, per_second=1000)
    assert label("a.mkv") == watch("a.mkv") == 0
    said = capsys.readouterr().out
    assert "a.mkv: its clock restarts once" in said
    assert "cut short" not in said  # by the two days that the file claims to last
    for name in ("a.mp4", "cam.mp4"):
        out = seen(bands / "out" / name)
        assert out.numbers == [*range(10)]
        assert out.times_s == pytest.approx([number / 25 for number in range(10)], abs=1e-3)


@pytest.mark.parametrize(
    "made",
    [
        Video("a.flv", frames=75, sound="aac"),
        Video("a.mkv", frames=75, sound="aac"),
        Video("a.mxf", "mpeg2video", frames=75),
    ],
)
def test_half_a_file_is_cut_short_whatever_lies_beside_its_pictures(
    bands: Path, made: Video, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made.make(bands)
    assert label(path, save="areas") == 0
    assert "cut short" not in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (bands / "out/a_areas.csv").unlink()
    assert label(path, save="areas") == 0
    assert f"{path} is cut short: it ended after" in capsys.readouterr().out


@pytest.mark.parametrize("last", [False, True])
def test_empty_chunks_of_an_avi_are_not_missing(
    bands: Path, last: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = empty_chunks(bands / "a.avi", last)
    assert label(path) == watch(path) == 0
    assert "cut short" not in capsys.readouterr().out + caplog.text
    expected = NUMBERS[:10] if last else [number for number in NUMBERS if number % 3 != 2]
    out = seen(bands / "out/a.mp4")
    assert out.numbers == expected
    assert out.times_s == pytest.approx([number / 25 for number in expected])


def test_packed_b_frames_come_out_in_their_places(
    bands: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = packed_b_frames(bands / "a.avi")
    with av.open(str(path)) as container:
        pictures = [bytes(packet).count(b"\0\0\1\xb6") for packet in container.demux(video=0)]
    assert pictures == [1, *[2, 1] * 5, 1, 0]  # the 0 is the end
    assert label(path) == watch(path) == 0
    assert "cut short" not in capsys.readouterr().out + caplog.text
    for name in ("a.mp4", "cam.mp4"):
        out = seen(bands / "out" / name)
        assert out.numbers == NUMBERS
        assert out.times_s == pytest.approx([number / 25 for number in NUMBERS], abs=0.001)
    assert label_numbers(bands / "out/a_labels") == dict(zip(NUMBERS, NUMBERS, strict=True))


def test_an_avi_that_is_cut_short_is_said_so(
    bands: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = Video("a.avi", "mjpeg", "yuvj420p").make(bands)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert label(path) == watch(path) == 0
    assert "a.avi is cut short: it ended after" in capsys.readouterr().out
    assert "of 12 frames: it is cut short" in caplog.text


@pytest.mark.parametrize(
    ("frames", "pairs"), [(12, False), (12, True), (42, True), pytest.param(42, False, marks=pytest.mark.slow)]
)  # 42: two segments
def test_two_fields_are_one_picture(bands: Path, frames: int, pairs: bool, capsys: pytest.CaptureFixture[str]) -> None:
    path = field_coded(bands / "a.mts", frames, pairs)
    assert label(path, save="overlay,labels,areas,strip,summary") == 0
    assert f"│ {frames} " in capsys.readouterr().out
    out = seen(bands / "out/a.mp4")
    assert out.numbers == [*range(frames)]
    assert out.times_s == pytest.approx([number / 25 for number in range(frames)], abs=0.001)
    assert label_numbers(bands / "out/a_labels") == {number: number for number in range(frames)}
    assert '"corrupt": 0' in (bands / "out/a_summary.json").read_text()
    assert cv2.imread(str(bands / "out/a_strip.png")).shape == (180, 8 * 270 + 7 * 4, 3)
    assert watch(bands / "a.h264") == 0
    assert seen(bands / "out/cam.mp4").numbers == [*range(frames)]


@pytest.mark.parametrize("first", [True, False])
def test_a_cover_is_not_the_video(bands: Path, first: bool) -> None:
    path = with_cover(bands / "a.mp4", "libx264", None)
    if first:
        cover_first(path)
    with av.open(str(path)) as container:
        assert [stream.width for stream in container.streams.video] == ([192, 96] if first else [96, 192])
    assert label(path) == watch(path) == 0
    assert seen(bands / "out/a.mp4").numbers == seen(bands / "out/cam.mp4").numbers == NUMBERS


def test_sound_with_a_cover_is_no_video(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = with_cover(bands / "a.mp4", None, "aac")
    assert label(path) == watch(path) == 3
    assert capsys.readouterr().err.count("holds no video stream: its only picture is a cover") == 2


@pytest.mark.parametrize(("default", "first"), [(0, 0), (1, 20), (None, 20)])
def test_of_several_videos_the_one_that_players_show(
    bands: Path, default: int | None, first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_streams(bands / "a.mkv", default)
    assert label(path) == 0
    assert "2 video streams (64x96, 96x144)" in capsys.readouterr().out
    assert watch(path) == 0
    assert "note    2 video streams" in capsys.readouterr().out
    expected = [first + number for number in NUMBERS]
    assert seen(bands / "out/a.mp4").numbers == seen(bands / "out/cam.mp4").numbers == expected


@pytest.mark.parametrize("orientation", [1, 3])
def test_side_data_that_nobody_knows_is_passed_over(bands: Path, orientation: int) -> None:
    path = jpegs_with_exif(bands / "a.avi", orientation)
    assert label(path) == watch(path) == 0
    if orientation == 1:
        assert seen(bands / "out/a.mp4").numbers == seen(bands / "out/cam.mp4").numbers == NUMBERS


def test_the_shape_of_pixels_is_recorded(bands: Path) -> None:
    video = Video("a.mp4", aspect=Fraction(16, 11))
    assert watch(video.make(bands)) == 0
    assert seen(bands / "out/cam.mp4").aspect == video.aspect
