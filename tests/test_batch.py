"""The parts of a batch: the inputs that arguments mean, the journal, joining segments, and what may be deleted."""

import csv
import json
import os
import sqlite3
from fractions import Fraction
from glob import glob
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from fakes import fake_network  # noqa: F401 - a fixture
from videos import make_video, picture

from rtseg.apps._console import run
from rtseg.apps.video import app
from rtseg.batch.jobs import find_jobs
from rtseg.batch.journal import Journal
from rtseg.batch.layout import move_into_place, remove_partial
from rtseg.batch.lock import output_lock
from rtseg.batch.plan import IN_FLIGHT, stops_of
from rtseg.batch.segments import class_areas
from rtseg.batch.task import Segment, SegmentDone
from rtseg.core.errors import OutputError, UsageError
from rtseg.sources.video_index import VideoIndex


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def video(*arguments: str, output: str = "out") -> int:
    with pytest.raises(SystemExit) as ended:
        run(app, ["--model", "fake", "--output", output, *arguments])
    return ended.value.code


# Inputs


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*inputs: str, output: str = "out") -> list[tuple[str, str]]:
    jobs = find_jobs(inputs, Path(output), ("overlay",))
    return [(job.source.as_posix(), job.target("overlay").as_posix()) for job in jobs]


def test_folders_are_searched_to_the_bottom() -> None:
    touch("disk/b.mp4", "disk/a.MKV", "disk/2025/trip/c.mov", "disk/2025/shots/1.png", "disk/2025/shots/2.jpg",
          "disk/notes.txt", "disk/.trash/d.mp4", "disk/a.partial/segments/000000.mp4", "disk/out/b.mp4")  # fmt: skip
    assert found("disk", output="disk/out") == [
        ("disk/a.MKV", "disk/out/a.mp4"),
        ("disk/b.mp4", "disk/out/b.mp4"),
        ("disk/2025/shots", "disk/out/2025/shots_overlay"),
        ("disk/2025/trip/c.mov", "disk/out/2025/trip/c.mp4"),
    ]


def test_lists_and_patterns() -> None:
    touch("lists/x.mp4", "more/y1.mp4", "more/y2.mp4", "more/deep/z.mp4")
    Path("lists/all.txt").write_text("# drives\n\nx.mp4\n../more/y*.mp4\n", encoding="utf-8")
    assert [source for source, _ in found("lists/all.txt")] == ["lists/x.mp4", "lists/../more/y1.mp4",
                                                                "lists/../more/y2.mp4"]  # fmt: skip
    assert [source for source, _ in found("more/**/*.mp4")] == ["more/deep/z.mp4", "more/y1.mp4", "more/y2.mp4"]
    Path("lists/of.txt").write_text("all.txt\n", encoding="utf-8")
    with pytest.raises(UsageError, match="lists another list"):
        found("lists/of.txt")


def test_patterns_follow_links_and_end_where_these_make_loops() -> None:
    touch("disk/a.mp4", "disk/[1]/b.mp4", "disk/.hidden/c.mp4", "far/d.mp4")
    for name, target in (("up", "."), ("again", "."), ("near", "../far")):
        Path("disk", name).symlink_to(target)
    expected = ["disk/[1]/b.mp4", "disk/a.mp4", "disk/near/d.mp4"]
    for pattern in ("disk/**/*.mp4", "disk/**", "d*/**/**/?.mp4"):
        assert [source for source, _ in found(pattern)] == expected


def test_a_list_that_matches_itself_and_what_is_named_twice() -> None:
    touch("a.mp4", "b.mp4")
    Path("all.txt").write_text("*\n./a.mp4\n", encoding="utf-8")
    assert [source for source, _ in found("all.txt", "b.mp4", "*.mp4")] == ["a.mp4", "b.mp4"]


def test_a_pattern_does_not_mean_what_was_made_of_it() -> None:
    touch("disk/a.mp4", "disk/out/a.mp4", "disk/out/deep/b.mp4", "disk/c.partial/segments/000000.mp4")
    assert found("disk/**/*.mp4", output="disk/out") == [("disk/a.mp4", "disk/out/a.mp4")]
    assert found("disk/*/a.mp4", output="more") == [("disk/out/a.mp4", "more/a.mp4")]
    assert found("disk/out/*.mp4", output="more") == [("disk/out/a.mp4", "more/a.mp4")]
    touch("x.mkv")
    assert found("*.mkv", output=".") == [("x.mkv", "x.mp4")]


def test_an_output_folder_is_no_input() -> None:
    touch("disk/a.mkv")
    with pytest.raises(UsageError, match="both input and output"):
        found("disk", output="disk")


# Journal and folder


def a_segment(number: int = 0) -> SegmentDone:
    indices = np.arange(3) + 3 * number
    areas = np.arange(6).reshape(3, 2)
    return SegmentDone(0, Segment(number, 3 * number, 3 * number + 3), indices, indices * 40, areas, 7, None, 99)


def test_a_journal_keeps_what_it_is_told(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin({"state": "begun", "size": [2, 3]}, {"pts": np.arange(5)})
        assert journal.add(a_segment(1))
        assert journal.add(a_segment(0))
        assert not journal.add(a_segment(1))
    with Journal(tmp_path) as journal:
        assert (journal.fact("state"), journal.fact("size"), journal.fact("none")) == ("begun", [2, 3], None)
        assert journal.array("pts").tolist() == list(range(5))
        first, second = journal.segments()
        assert (first.segment, second.segment) == (a_segment(0).segment, a_segment(1).segment)
        assert (second.before, second.last, second.size) == (7, None, 99)
        np.testing.assert_array_equal(second.areas, a_segment().areas)
        journal.drop([0])
        assert [done.segment.number for done in journal.segments()] == [1]


def test_a_journal_that_is_damaged_or_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "journal.sqlite").write_text("no database, but long enough to be looked at" * 50)
    with pytest.raises(OutputError, match="damaged"):
        Journal(tmp_path / "a")
    (tmp_path / "b").mkdir()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout, **settings: connect(path, timeout / 100, **settings))
    with Journal(tmp_path / "b"), pytest.raises(OutputError, match="in use"):
        Journal(tmp_path / "b")


@pytest.mark.parametrize("fps", [1, 3, 5, 10, 15, 24, 30, 60])
@pytest.mark.parametrize("counted", [False, True])
def test_a_kill_costs_two_seconds_of_video_at_most_or_nine_frames(fps: int, counted: bool) -> None:
    ticks = np.arange(20 * fps) * 1000
    index = VideoIndex(Fraction(1, 1000 * fps), len(ticks), None, None if counted else ticks, np.empty(0), 0, 1000)
    stops = [0, *stops_of(index, fps)[: -1 if counted else None]]
    longest = max(np.diff(stops))
    assert min(np.diff(stops)) >= 1
    assert (longest + IN_FLIGHT) / fps <= 2 or longest == 1
    assert stops[-1] == len(ticks) or counted


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    partial = tmp_path / "a.partial"
    for name in ("segments/000000.mp4", f"work-{'0' * 32}/000001.mp4", "a_labels/000000.png", "a.mp4"):
        touch(str(partial / name))
    Journal(partial).close()
    mine = [partial / "segments.txt", partial / "a_labels" / "notes.txt", partial / "work-mine" / "x.mp4"]
    touch(*map(str, mine))
    remove_partial(partial, ["a.mp4", "a_labels"])
    assert sorted(path for path in partial.rglob("*") if path.is_file()) == sorted(mine)
    for path in mine:
        path.unlink()
        path.parent.rmdir() if path.parent != partial else None
    remove_partial(partial, [])
    assert not partial.exists()


def test_a_folder_that_was_being_moved_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"{index:06d}.png": f"{index:06d}.png" for index in range(3)}
    touch(*(str(tmp_path / "made" / name) for name in names))
    touch(*(str(tmp_path / "target" / name) for name in ("notes.txt", "000000.png", "000009.png")))
    replaced, moved = os.replace, []

    def broken_off(made: Path, target: Path) -> None:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        replaced(made, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", broken_off)
        with pytest.raises(KeyboardInterrupt):
            move_into_place(tmp_path / "made", tmp_path / "target", names)
    move_into_place(tmp_path / "made", tmp_path / "target", names)
    assert sorted(os.listdir(tmp_path / "target")) == [*sorted(names), "notes.txt"]
    assert not (tmp_path / "made").exists()


def visible(folder: str) -> list[str]:
    """What a user sees in the folder."""
    return sorted(glob("*", root_dir=folder))


@pytest.mark.usefixtures("fake_network")
def test_overwrite_begins_anew_where_a_journal_is_damaged() -> None:
    make_video(Path("a.mp4"), 5, (64, 96))
    touch(f"out/a.partial/work-{'0' * 32}/a_labels_000000.png")
    Path("out/a.partial/journal.sqlite").write_text("no database, but long enough to be looked at" * 50)
    assert video("a.mp4") == 4
    assert video("a.mp4", "--overwrite") == 0
    assert visible("out") == ["a.mp4"]
    touch(f"out/b.partial/work-{'0' * 32}/b_labels_000000.png")  # a pass that outlived its input's failure
    Path("a.mp4").rename("b.mp4")
    assert video("b.mp4") == 0
    assert visible("out") == ["a.mp4", "b.mp4"]


def test_the_lock_is_freed_and_leaves_nothing(tmp_path: Path) -> None:
    with output_lock(tmp_path):
        with pytest.raises(OutputError, match="another rtseg-video"), output_lock(tmp_path):
            pass
        assert os.listdir(tmp_path)
    with output_lock(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


# Outputs


def make_sounding(
    path: str, codec: str, *, video_start_s: float = 0.0, audio_start_s: float = 0.0, layout: str = "stereo"
) -> None:
    """Two seconds of video, and a tone."""
    rate = 48000
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        sound = container.add_stream(codec, rate=rate, layout=layout)
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(picture(index, (64, 96)), format="bgr24")
            frame.pts, frame.time_base = round((video_start_s + index / 25) * 90000), Fraction(1, 90000)
            container.mux(stream.encode(frame))
        tone = np.sin(np.arange(2 * rate) * 0.05).astype(np.float32) / 3
        whole = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        whole.sample_rate, whole.pts, whole.time_base = rate, round(audio_start_s * rate), Fraction(1, rate)
        for piece in AudioResampler(sound.codec_context.format.name, layout, rate).resample(whole):
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
        container.mux(stream.encode(None))


def times_of(path: str) -> tuple[list[Fraction], list[Fraction], str, int]:
    """Times of pictures and of sound packets, the sound's codec, and its number of samples."""
    with av.open(path) as container:
        pictures = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    with av.open(path) as container:
        pieces = list(container.decode(audio=0))
        codec = container.streams.audio[0].codec_context.codec.canonical_name
    return pictures, [piece.pts * piece.time_base for piece in pieces], codec, sum(piece.samples for piece in pieces)


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize(
    ("name", "codec", "expected", "starts"),
    [
        ("a.mp4", "aac", "aac", (0, 0)),
        ("a.ts", "aac", "aac", (0, 0)),
        ("late_sound.mp4", "aac", "aac", (0, 0.4)),
        ("pcm_late.mov", "pcm_s16le", "aac", (0.5, 0)),
        pytest.param("late_video.mkv", "aac", "aac", (0.5, 0), marks=pytest.mark.slow),
        pytest.param("a.mkv", "libmp3lame", "mp3", (0, 0), marks=pytest.mark.slow),
        pytest.param("opus.mkv", "libopus", "opus", (0, 0), marks=pytest.mark.slow),
        pytest.param("flac.mkv", "flac", "flac", (0, 0), marks=pytest.mark.slow),
        pytest.param("pcm.mov", "pcm_s16le", "aac", (0, 0), marks=pytest.mark.slow),
    ],
)
def test_sound_comes_along(name: str, codec: str, expected: str, starts: tuple[float, float], capsys) -> None:  # type: ignore[no-untyped-def]
    make_sounding(name, codec, video_start_s=starts[0], audio_start_s=starts[1])
    assert video(name) == 0
    before, sound_before, _, samples_before = times_of(name)
    after, sound_after, codec_after, samples = times_of(f"out/{Path(name).stem}.mp4")
    assert codec_after == expected
    assert [time - after[0] for time in after] == [time - before[0] for time in before]
    assert float(sound_after[0] - after[0]) == pytest.approx(float(sound_before[0] - before[0]), abs=1e-4)
    assert abs(samples - samples_before) <= 1024  # encoders work in blocks
    assert ("is encoded as AAC" in capsys.readouterr().out) == (codec == "pcm_s16le")


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no colon in a name")
@pytest.mark.usefixtures("fake_network")
def test_any_name_that_a_file_can_have() -> None:
    make_sounding("file:cam1:front 5% %d é.mp4", "aac")
    assert video("cam1:front 5% %d é.mp4", "--save", "overlay,label-video", output="o:1") == 0
    assert {path.stem for path in Path("o:1").glob("*.m*")} == {"cam1:front 5% %d é", "cam1:front 5% %d é_labels"}
    pictures, sound, _, _ = times_of("file:o:1/cam1:front 5% %d é.mp4")
    assert (len(pictures), bool(sound)) == (50, True)
    content = Path("o:1/cam1:front 5% %d é.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.usefixtures("fake_network")
def test_sound_that_goes_from_stereo_to_mono_comes_along_whole() -> None:
    make_sounding("a.ts", "mp2")
    make_sounding("b.ts", "mp2", video_start_s=2.0, audio_start_s=2.0, layout="mono")
    Path("both.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    assert video("both.ts") == 0
    pictures, _, codec, samples = times_of("out/both.mp4")
    assert (len(pictures), codec) == (100, "aac")
    assert samples / 48000 == pytest.approx(4.0, abs=0.1)


@pytest.mark.usefixtures("fake_network")
def test_an_overlay_is_what_other_readers_and_browsers_expect() -> None:
    rate = Fraction(30000, 1001)
    make_video(Path("a.mov"), 75, (64, 96), rate, rotation=90)
    assert video("a.mov") == 0
    with av.open("out/a.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == (
            "h264",
            "yuv420p",
            rate,
        )
        assert (stream.height, stream.width, stream.frames) == (96, 64, 75)  # upright
        assert float(container.duration / av.time_base) == pytest.approx(75 / float(rate), abs=0.001)
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
        assert [packet.is_keyframe for packet in packets].count(True) == 2  # one a segment
    content = Path("out/a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays while it loads
    reader = cv2.VideoCapture("out/a.mp4")
    count = 0
    while reader.read()[0]:
        count += 1
    assert (count, reader.get(cv2.CAP_PROP_FPS)) == (75, pytest.approx(float(rate)))


@pytest.mark.usefixtures("fake_network")
def test_uneven_times_and_uneven_pixels_stay() -> None:
    times = [0.25, 0.29, 0.31, 1.0, 1.013, 2.5, 2.54, 2.9]
    make_video(Path("a.mkv"), len(times), (64, 96), times_s=times)
    assert video("a.mkv") == 0
    with av.open("out/a.mp4") as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert shown == [Fraction(round(1000 * (time - 0.25)), 1000) for time in times]
    with av.open("wide.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0, (64, 96)), format="bgr24")))
        container.mux(stream.encode(None))
    assert video("wide.mp4") == 0
    with av.open("out/wide.mp4") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.usefixtures("fake_network")
def test_every_kind_of_output() -> None:
    make_video(Path("a.mp4"), 50, (64, 96))
    assert video("a.mp4", "--save", "labels,label-video,areas,strip,summary") == 0
    assert visible("out") == ["a_areas.csv", "a_labels", "a_labels.mkv", "a_strip.png", "a_summary.json"]
    maps = [cv2.imread(f"out/a_labels/{index:06d}.png", cv2.IMREAD_UNCHANGED) for index in range(50)]
    with av.open("out/a_labels.mkv") as container:
        frames = list(container.decode(video=0))
        assert [frame.pts * frame.time_base for frame in frames] == [Fraction(index, 25) for index in range(50)]
    for frame, labels in zip(frames, maps, strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(), labels)
    with open("out/a_areas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["frame"]), float(row["time_s"])) for row in rows] == [(n, n / 25) for n in range(50)]
    for row, labels in zip(rows, maps, strict=True):
        assert float(row["car"]) == pytest.approx(np.mean(labels == 8), abs=1e-6)
    summary = json.loads(Path("out/a_summary.json").read_text())
    assert (summary["frames"], summary["duration_s"], summary["size"]) == (50, 2.0, [64, 96])
    assert summary["classes"]["car"]["mean_area"] == pytest.approx(np.mean([m == 8 for m in maps]), abs=1e-6)
    assert summary["settings"]["model"] == "fake"
    assert cv2.imread("out/a_strip.png").shape == (180, 8 * 270 + 7 * 4, 3)


def test_areas_are_exact_where_float32_is_not() -> None:
    labels = np.full((5000, 4000), 3, np.uint8)
    labels[0, :5] = 255
    assert class_areas(labels, 11).tolist() == [0, 0, 0, 20_000_000 - 5, *[0] * 7]
