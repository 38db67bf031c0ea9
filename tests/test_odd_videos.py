"""Videos of every container and codec through `rtseg-video`: count, order, times, size, colour and sound of each."""

from fractions import Fraction
from pathlib import Path

import pytest
from odd_media import (
    SIZE,
    Video,
    area_times,
    label,
    label_numbers,
    opencv_numbers,
    seen,
    sound_s,
)

pytestmark = pytest.mark.slow

B_FRAMES = {"bf": "3", "g": "12"}
VP = {"deadline": "realtime", "cpu-used": "8"}
HEVC = {"x265-params": "log-level=none:open-gop=1:keyint=6", "preset": "ultrafast"}
UNEVEN = [0.5, 0.533, 0.6, 1.1, 1.101, 2.0, 2.04, 2.05, 2.5, 2.51, 2.9, 2.95]

VIDEOS = [
    Video("plain.mp4", sound="aac"),
    Video("b.mp4", options=B_FRAMES),
    Video("b.mov", options=B_FRAMES, sound="pcm_s16le"),
    Video("b.mkv", options=B_FRAMES, sound="flac"),
    Video("b.ts", options=B_FRAMES, sound="mp2"),
    Video("b.flv", options=B_FRAMES, sound="aac"),
    Video("b.avi", options=B_FRAMES, sound="libmp3lame"),
    Video("mpeg4b.avi", "mpeg4", options={"bf": "2"}, sound="pcm_s16le"),
    Video("mpeg4b.mkv", "mpeg4", options={"bf": "2"}),
    Video("hevc.mp4", "libx265", options=HEVC, sound="aac"),
    Video("hevc.ts", "libx265", options=HEVC),
    Video("b.m2ts", options=B_FRAMES, sound="ac3"),
    Video("b.3gp", "h263", aspect=Fraction(12, 11), size_hw=(96, 128), sound="libopencore_amrnb", sound_rate=8000),
    Video("b.m4v", "mpeg4", form="mp4", options={"bf": "1"}),
    Video("b.mpg", "mpeg2video", options={"bf": "2"}, sound="mp2"),
    Video("one.mpg", "mpeg1video", options={"bf": "2"}),
    Video("b.vob", "mpeg2video", form="vob", options={"bf": "2"}, sound="ac3"),
    Video("b.mxf", "mpeg2video", options={"bf": "2"}, sound="pcm_s16le"),
    Video("bare.m2v", "mpeg2video", form="mpeg2video", options={"bf": "2"}),
    Video("bare.h264", options=B_FRAMES),
    Video("bare.265", "libx265", form="hevc", options=HEVC),
    Video("bare.mjpeg", "mjpeg", "yuvj420p"),
    Video("jpeg.avi", "mjpeg", "yuvj422p", sound="pcm_u8", sound_rate=8000),
    Video("jpeg.mov", "mjpeg", "yuvj444p", sound="pcm_mulaw", sound_rate=8000),
    Video("wm.asf", "wmv2", sound="adpcm_ms"),
    Video("wm.wmv", "wmv1", sound="libmp3lame"),
    Video("ms.avi", "msmpeg4", sound="adpcm_ms", sound_rate=22050),
    Video("vp8.webm", "libvpx", options={**VP, "auto-alt-ref": "1", "lag-in-frames": "8"}, sound="libopus"),
    Video("vp9.webm", "libvpx-vp9", options={**VP, "lag-in-frames": "8"}),
    Video("vp9.ivf", "libvpx-vp9", options={**VP, "lag-in-frames": "8"}),
    Video("av1.mkv", "libsvtav1", options={"preset": "12", "svtav1-params": "logical-processors=1"}),
    Video("prores.mov", "prores_ks", "yuv422p10le", sound="pcm_s16be"),
    Video("raw.nut", "rawvideo", "yuv420p", sound="wavpack"),
    Video("raw.y4m", "rawvideo", "yuv420p"),
    Video("rgb.mov", "png", "rgb24", sound="alac"),
    Video("alpha.mov", "qtrle", "argb"),
    Video("ffv1.mkv", "ffv1", "gbrp10le", sound="tta"),
    Video("ten.mp4", pix_fmt="yuv420p10le", sound="libopus"),
    Video("full.mp4", pix_fmt="yuv444p", sound="libmp3lame"),
    Video("ut.avi", "utvideo", "gbrp"),
    Video("a.gif", "gif", "rgb8", rate=10),
    Video("low.mkv", sound="libmp3lame", sound_rate=11025),
    Video("low.avi", sound="libmp3lame", sound_rate=8000),
    Video("nelly.flv", "flv", sound="nellymoser", sound_rate=11025),
    Video("opus.mkv", sound="libopus", sound_rate=16000),
    Video("odd.mkv", "ffv1", "bgr0", size_hw=(63, 97)),
    Video("uneven.mp4", times_s=UNEVEN),
    Video("uneven.mkv", times_s=UNEVEN, options=B_FRAMES),
    Video("uneven.flv", times_s=UNEVEN),
    Video("uneven.webm", "libvpx", times_s=UNEVEN, options=VP),
    Video("ntsc.ts", rate=Fraction(30000, 1001)),
    Video("slow.mp4", rate=Fraction(1, 5)),
    Video("fast.mp4", rate=240),
    Video("turned.mp4", rotation=90, size_hw=(96, 64)),
    Video("wide.mp4", aspect=Fraction(16, 11)),
    Video("wide.mkv", aspect=Fraction(4, 3), rotation=90),
    Video("fragments.mp4", muxer={"movflags": "frag_keyframe+empty_moov"}, sound="aac"),
    Video("live.mkv", muxer={"live": "1"}, sound="aac"),
    Video("one_picture.mp4", frames=1),
    Video("two_pictures.avi", frames=2, options=B_FRAMES),
]


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video.name)
def test_every_picture_comes_out_in_its_place(video: Video, bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = video.make(bands)
    assert label(path) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "cut short" not in printed.out
    out = seen(bands / "out" / f"{path.stem}.mp4")
    turned = video.rotation in (90, -90)
    numbers = list(range(video.frames))
    assert out.size_hw == tuple(side + side % 2 for side in (video.size_hw[::-1] if turned else video.size_hw))
    assert out.times_s == pytest.approx(video.shown_s, abs=0.0006)
    assert (out.sound_s is None) == (video.sound is None)
    if out.sound_s is not None:
        assert out.sound_s == pytest.approx(sound_s(path), abs=0.15)
    assert out.aspect == (1 / video.aspect if video.aspect and turned else video.aspect or 1)
    assert [row for row, _ in area_times(bands / "out" / f"{path.stem}_areas.csv")] == numbers
    if not turned:
        assert out.numbers == numbers
        assert opencv_numbers(path) in (numbers, [])  # it has no decoder for some
        assert label_numbers(bands / "out" / f"{path.stem}_labels") == dict(zip(numbers, numbers, strict=True))
        assert out.coloured


def test_the_size_is_the_one_that_is_tested() -> None:
    assert {video.size_hw for video in VIDEOS} >= {SIZE, (63, 97)}
