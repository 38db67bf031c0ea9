"""Video files of every kind: times, rates, rotation, pixel formats, damage."""

import gc
import logging
import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from videos import corners, make_video, picture, trim_start

from rtseg.core.errors import InputError
from rtseg.sources.open import open_source
from rtseg.sources.video_index import estimate_frames, index_video


def test_video_reports_what_it_is_and_gives_every_frame_in_order(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "a.mp4", 12)) as source:
        assert (source.kind, source.size_hw, source.fps, source.frame_count) == ("video", (48, 64), 25.0, 12)
        assert not source.live
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([n / 25 for n in range(12)])
    assert all(frame.image.flags.c_contiguous and frame.image.dtype == np.uint8 for frame in frames)
    assert corners(frames[5].image)[:2] == "WB"
    assert source.corrupt == 0


def test_decoded_frames_are_freed_at_once_not_by_the_cycle_collector(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", 60, rotation=90)
    gc.collect()
    gc.disable()
    try:
        with open_source(video) as source:
            read = sum(1 for _ in source)
            alive = sum(type(found) is VideoFrame for found in gc.get_objects())  # isinstance would wake dead proxies
    finally:
        gc.enable()
    assert read == 60
    assert alive < 10


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("12:30:00", marks=pytest.mark.skipif(os.name == "nt", reason="Windows allows no colon in a name")),
        "100%d of 5% %03d",
        "Gasse 東京 é",
        "http",
        "rtsp",
    ],
)
def test_any_name_that_a_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with open_source(make_video(Path(f"{name}.mp4"), 3)) as source:
        assert source.name == f"{name}.mp4"
        assert len(list(source)) == 3
    Path(f"{name}.mkv").write_text("no video")
    with pytest.raises(InputError, match=f"^cannot open {name}.mkv: "):
        open_source(f"{name}.mkv")


def test_ntsc_rate_is_not_rounded(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "a.mp4", 30, rate=Fraction(30000, 1001))) as source:
        assert source.fps == pytest.approx(29.97003, abs=1e-5)
        assert list(source)[-1].timestamp_s == pytest.approx(29 * 1001 / 30000, abs=1e-4)


def test_variable_rate_keeps_its_own_times_and_starts_at_zero(tmp_path: Path) -> None:
    times = [0.5, 0.6, 0.9, 1.0, 2.5]
    with open_source(make_video(tmp_path / "a.mkv", 5, times_s=times)) as source:
        assert [frame.timestamp_s for frame in source] == pytest.approx([t - 0.5 for t in times], abs=2e-3)


@pytest.mark.parametrize(
    ("rotation", "hflip", "size_hw", "expected"),
    [
        (0, False, (48, 64), "WB--"),
        (90, False, (64, 48), "B-W-"),
        (180, False, (48, 64), "--BW"),
        (-90, False, (64, 48), "-W-B"),
        (0, True, (48, 64), "BW--"),
    ],
)
def test_rotation_flag_is_applied(
    tmp_path: Path, rotation: float, hflip: bool, size_hw: tuple[int, int], expected: str
) -> None:
    with open_source(make_video(tmp_path / "a.mp4", 2, rotation=rotation, hflip=hflip)) as source:
        frame = source.read()
        assert frame is not None
        assert source.size_hw == frame.size_hw == size_hw
        assert corners(frame.image) == expected


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "size_hw"),
    [
        (".mkv", "ffv1", "gray", (48, 64)),
        (".mkv", "ffv1", "gray16le", (48, 64)),
        (".mkv", "ffv1", "bgra", (48, 64)),
        (".mkv", "ffv1", "yuv420p10le", (48, 64)),
        (".mkv", "ffv1", "bgr0", (33, 47)),
        (".mkv", "ffv1", "bgr0", (1, 1)),
        (".avi", "mjpeg", "yuvj420p", (31, 45)),
        (".ts", "libx264", "yuv420p", (48, 64)),
    ],
)
def test_every_pixel_format_and_size_comes_out_as_bgr8(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, size_hw: tuple[int, int]
) -> None:
    path = make_video(tmp_path / f"a{suffix}", 3, size_hw, codec=codec, pix_fmt=pix_fmt)
    with open_source(path, threads=1) as source:
        frames = list(source)
    assert len(frames) == 3
    assert all(frame.image.shape == (*size_hw, 3) and frame.image.dtype == np.uint8 for frame in frames)
    if min(size_hw) > 8:
        assert frames[0].image[2, 2].min() > 235


def test_unknown_frame_count_is_none(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "a.mkv", 4, codec="mpeg4")) as source:
        assert source.frame_count is None
        assert len(list(source)) == 4


def test_corrupt_frames_are_counted_and_skipped_but_keep_their_place(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 40, options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
    assert 0 < source.corrupt < 40
    assert len(frames) + source.corrupt == 40
    assert frames[-1].index == 39
    assert frames[-1].timestamp_s == pytest.approx(39 / 25)


def test_a_file_cut_short_gives_the_frames_it_has_and_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "a.mp4", 40, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with caplog.at_level(logging.WARNING), open_source(path) as source:
        assert 5 < len(list(source)) < 40
    assert "of 40 frames" in caplog.text


@pytest.mark.parametrize("hidden", [4, 10, 13])
def test_what_an_edit_list_hides_is_not_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture, hidden: int) -> None:
    path = trim_start(make_video(tmp_path / "whole.mp4", 40), tmp_path / "a.mp4", hidden)
    with caplog.at_level(logging.WARNING), open_source(path) as source:
        assert source.frame_count == 40 - hidden
        assert len(list(source)) == 40 - hidden
    assert caplog.text == ""
    assert estimate_frames(path) == index_video(path).announced == index_video(path).frames == 40 - hidden


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.flv"])
def test_a_file_that_ends_long_before_its_stated_duration_is_cut_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = make_video(tmp_path / name, 90, codec="libvpx" if name == "a.webm" else "libx264")
    assert index_video(path).announced is None
    with caplog.at_level(logging.WARNING), open_source(path) as source:
        assert len(list(source)) == 90
    assert caplog.text == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING), open_source(path) as source:
        frames = len(list(source)) + source.corrupt
    assert 30 < frames < 60
    (message,) = caplog.messages
    found = re.search(rf"{name} ended after {frames} of (\d+) frames: it is cut short", message)
    assert found
    assert int(found[1]) == pytest.approx(90, abs=9)  # the last packets may hold half a picture
    assert index_video(path).announced == pytest.approx(90, abs=5)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mkv", {"live": "1"}), ("a.ts", {}), ("a.mpg", {}), ("a.mov", {"movflags": "frag_keyframe+empty_moov"})],
)
def test_an_unknown_duration_is_no_reason_to_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, options: dict[str, str]
) -> None:
    path = make_video(tmp_path / name, 90, codec="mpeg2video" if name == "a.mpg" else "libx264", options=options)
    data = path.read_bytes()
    for size in (len(data), len(data) // 2):
        path.write_bytes(data[:size])
        with caplog.at_level(logging.WARNING), open_source(path) as source:
            assert len(list(source)) > 30
        assert caplog.text == ""
        assert index_video(path).announced is None


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_sound_that_goes_on_after_the_pictures_is_no_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono")
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, (48, 64)), format="bgr24")))
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 4 * 44100), np.float32), format="fltp", layout="mono")
        quiet.sample_rate = 44100
        container.mux(sound.encode(quiet))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    with caplog.at_level(logging.WARNING), open_source(tmp_path / name) as source:
        assert len(list(source)) == 10
    assert caplog.text == ""
