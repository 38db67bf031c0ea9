"""A span of a video yields, bit for bit, the same frames as reading from the start."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from videos import make_video, picture

from rtseg.sources.images import list_images
from rtseg.sources.span import ENDLESS, PictureSpan, Span, TimestampError, VideoSpan
from rtseg.sources.video_index import VideoIndex, estimate_frames, index_video

SIZE = (48, 64)
OPEN = {"bf": "3", "x264-params": "open-gop=1:keyint=12:scenecut=0"}
# name -> (codec, options); among them B frames, open groups, gradual refresh, containers without index or timestamps
VIDEOS = {
    "closed.mp4": ("libx264", {"bf": "3"}),
    "open.mp4": ("libx264", OPEN),
    "open.mkv": ("libx264", OPEN),
    "open.ts": ("libx264", OPEN),
    "refresh.mkv": ("libx264", {"x264-params": "intra-refresh=1:keyint=12"}),
    "hevc.ts": ("libx265", {"x265-params": "log-level=none:open-gop=1:keyint=12"}),
    "mpeg4.avi": ("mpeg4", {"bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", {"bf": "2"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "16"}),
    "lossless.mkv": ("ffv1", {}),
    "bare.h264": ("libx264", {"bf": "3"}),
}


def make(path: Path, codec: str, options: dict[str, str], frames: int = 60) -> Path:
    """A picture that moves, so that every frame refers to others."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        for index in range(frames):
            image = np.roll(picture(index // 20, SIZE), 2 * index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def span_of(index: VideoIndex, first: int, stops: tuple[int, ...], **changes: object) -> Span:
    settings: dict[str, object] = {"size_hw": SIZE, "fps": 25.0, "time_base": index.time_base}
    if index.pts is not None:
        settings |= {"pts": index.pts[first : stops[-1]], "origin": int(index.pts[0])}
    return Span(first, stops, **{**settings, **changes})  # type: ignore[arg-type]


def read(path: Path, span: Span) -> tuple[list[tuple[int, float, bytes]], VideoSpan]:
    with VideoSpan(path, span, threads=1) as source:
        return [(frame.index, frame.timestamp_s, frame.image.tobytes()) for frame in source], source


@pytest.mark.parametrize("name", VIDEOS)
def test_a_stretch_equals_the_whole(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name, *VIDEOS[name])
    index = index_video(path)
    assert index.frames == 60
    whole, source = read(path, span_of(index, 0, (60,)))
    assert [frame[0] for frame in whole] == list(range(60))
    assert source.reached == 60
    for first, stop in ((13, 30), (30, 31), (49, 60)):
        changes: dict[str, object] = {}
        if index.pts is not None:
            keys = index.keys[index.keys <= index.pts[first]]
            changes = {"start": int(keys[-2]) if len(keys) > 1 else None}
        part, source = read(path, span_of(index, first, (stop,), **changes))
        assert part == whole[first:stop]
        assert source.reached == stop
    assert (index.pts is None) == (name == "bare.h264")


def test_timestamps_are_the_files_own(tmp_path: Path) -> None:
    times = [0.5, 0.533, 0.6, 1.1, 1.101, 4.0, 4.04]
    path = make_video(tmp_path / "a.mkv", 7, SIZE, times_s=times)
    index = index_video(path)
    assert index.pts is not None
    assert [float(tick * index.time_base) for tick in index.pts.tolist()] == times
    frames, _ = read(path, span_of(index, 3, (7,)))
    assert [frame[1] for frame in frames] == pytest.approx([time - 0.5 for time in times[3:]], abs=1e-9)


def test_a_seam_that_does_not_fit_is_decoded_from_the_start(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", *VIDEOS["closed.mp4"])
    index = index_video(path)
    whole, _ = read(path, span_of(index, 0, (30, 60)))
    _, source = read(path, span_of(index, 30, (60,), start=int(index.keys[1])))
    seam = source.seams[29]
    started: list[object] = []

    class Watched(VideoSpan):
        def _timed(self, start, margin_s=0.0):  # type: ignore[no-untyped-def]
            started.append(start)
            return super()._timed(start, margin_s)

    for before, starts in ((seam, 1), (seam ^ 1, 3)):
        started.clear()
        with Watched(path, span_of(index, 30, (60,), start=int(index.keys[1]), before=before), threads=1) as watched:
            assert [frame.image.tobytes() for frame in watched] == [frame[2] for frame in whole[30:]]
        assert len(started) == starts
        assert (started[-1] is None) == (starts == 3)


def test_a_warm_up_is_given_first_and_again_where_a_seam_does_not_fit(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", *VIDEOS["closed.mp4"])
    index = index_video(path)
    assert index.pts is not None
    whole, source = read(path, span_of(index, 0, (30, 60)))
    seam = source.seams[29]
    wanted = {"start": int(index.keys[0]), "pts": index.pts[21:60], "warm_up": 9}
    for before, given in ((seam, whole[21:]), (None, whole[21:]), (seam ^ 1, 2 * whole[21:30] + whole[21:])):
        part, source = read(path, span_of(index, 30, (60,), before=before, **wanted))
        assert part == given
        assert source.seams[29] == seam
        assert source.reached == 60
    counted, _ = read(path, Span(30, (ENDLESS,), SIZE, 25.0, index.time_base, warm_up=9))
    assert [frame[0] for frame in counted] == list(range(21, 60))


def test_seams_are_those_of_the_whole(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", *VIDEOS["open.mp4"])
    index = index_video(path)
    _, whole = read(path, span_of(index, 0, (20, 40, 60)))
    _, part = read(path, span_of(index, 20, (40, 60), start=int(index.keys[0])))
    assert set(whole.seams) == {19, 39, 59}
    assert part.seams == whole.seams


def test_finish_ends_at_the_end_of_the_segment(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", *VIDEOS["closed.mp4"])
    with VideoSpan(path, span_of(index_video(path), 0, (20, 40, 60)), threads=1) as source:
        for _ in range(21):
            assert source.read() is not None
        source.finish()
        left = [frame.index for frame in source]
    assert left == list(range(21, 40))
    assert source.reached == 40


def test_timestamps_that_no_packet_has_are_told(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", *VIDEOS["closed.mp4"])
    index = index_video(path)
    assert index.pts is not None
    wrong = span_of(index, 0, (60,), pts=index.pts + np.where(np.arange(60) == 5, 1, 0))
    with pytest.raises(TimestampError, match="timestamp of no packet"):
        read(path, wrong)


def test_counted_frames_have_increasing_times(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h264", *VIDEOS["bare.h264"])
    span = Span(10, (ENDLESS,), SIZE, 25.0, Fraction(1, 1000))
    frames, _ = read(path, span)
    assert [frame[0] for frame in frames] == list(range(10, 60))
    assert np.diff([frame[1] for frame in frames]).min() > 0


def test_the_index_of_what_cannot_be_trusted(tmp_path: Path) -> None:
    once = make_video(tmp_path / "a.ts", 120).read_bytes()
    twice = tmp_path / "twice.ts"
    twice.write_bytes(once + once)  # recordings put together: timestamps jump back
    index = index_video(twice)
    assert (index.frames, index.pts) == (240, None)
    frames, _ = read(twice, span_of(index, 0, (ENDLESS,)))
    assert len(frames) == 240
    assert np.diff([frame[1] for frame in frames]).min() > 0
    assert estimate_frames(make_video(tmp_path / "b.mp4", 12)) == 12
    assert estimate_frames(make_video(tmp_path / "b.mkv", 12)) == pytest.approx(12, abs=1)


def test_pictures_are_a_row_too(tmp_path: Path) -> None:
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 9, 3), number, np.uint8))
    (tmp_path / "2.png").write_text("damaged")
    span = Span(1, (2, 5), (8, 9), 1.0, Fraction(1))
    with PictureSpan("row", list_images(tmp_path), span) as source:
        assert [(frame.index, frame.timestamp_s, frame.image[0, 0, 0]) for frame in source] == [
            (1, 1.0, 1), (3, 3.0, 3), (4, 4.0, 4),
        ]  # fmt: skip
    assert (source.reached, source.corrupt) == (5, 1)
