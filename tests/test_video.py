"""`rtseg-video` on videos and pictures that the tests generate, with a fake engine."""

import json
import re
import signal
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from fakes import FakeEngine, fake_card, fake_network, loop_threads  # noqa: F401 - a fixture
from videos import make_video as make_video_at
from videos import trim_start

import rtseg
from rtseg.apps._console import run
from rtseg.apps.video import app
from rtseg.batch.jobs import Job
from rtseg.batch.lock import output_lock
from rtseg.batch.made import FOLDER, note_made, read_made
from rtseg.core.card import CardFile
from rtseg.core.errors import EngineError, InputError, OutputError
from rtseg.core.threads import thread_budget
from rtseg.engines import TABLE
from rtseg.engines.rate import Fps, Measured
from rtseg.live.policies import Every
from rtseg.sinks.video import VideoSink

pytestmark = pytest.mark.usefixtures("fake_network")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    yield
    assert loop_threads() == []


def video(*arguments):
    """Runs the command in this process and returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        run(app, [*(() if "--model" in arguments else ("--model", "fake")), *arguments])
    return ended.value.code


def make_video(path, frames=6, size_hw=(64, 96), rate=25, **settings):
    make_video_at(Path(path), frames, size_hw, rate, **settings)


def stream_of(path):
    """(frames, fps, (height, width)) as seen by a player."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sum(1 for _ in container.decode(video=0)), float(stream.average_rate), (stream.height, stream.width)


def names(folder):
    """What a user finds in the folder."""
    return sorted(path.name for path in Path(folder).iterdir() if path.name != FOLDER)


@pytest.mark.parametrize("fps", [Fraction(25, 2), Fraction(30000, 1001)])
def test_an_overlay_keeps_frames_fps_and_size(fps, capsys):
    make_video("a.mp4", frames=7, rate=fps)
    assert video("a.mp4", "--output", "out") == 0
    frames, rate, size_hw = stream_of("out/a.mp4")
    assert (frames, size_hw) == (7, (64, 96))
    assert rate == pytest.approx(float(fps), rel=1e-4)
    assert names("out") == ["a.mp4"]
    printed = capsys.readouterr()
    for words in ("fake 1 on CPU", "auto    the only choice here", "input 128x192", "a.mp4", "7"):
        assert words in printed.out
    assert printed.err == ""


def test_label_maps_are_the_segmenters_own():
    make_video("a.mp4", frames=5)
    assert video("a.mp4", "--output", "out", "--save", "overlay,labels") == 0
    assert names("out") == ["a.mp4", "a_labels"]
    assert names("out/a_labels") == [f"{index:06d}.png" for index in range(5)]
    with rtseg.load("fake") as segmenter, rtseg.open_source("a.mp4") as source:
        for frame in source:
            labels = cv2.imread(f"out/a_labels/{frame.index:06d}.png", cv2.IMREAD_UNCHANGED)
            assert labels.dtype == np.uint8
            np.testing.assert_array_equal(labels, segmenter(frame))


def test_labels_alone_write_no_video():
    make_video("a.mp4", frames=2)
    assert video("a.mp4", "--output", "out", "--save", "labels") == 0
    assert names("out") == ["a_labels"]


def test_odd_sizes_are_padded_in_the_overlay_only(capsys):
    make_video("odd.mkv", frames=3, size_hw=(63, 95), rate=10, codec="ffv1", pix_fmt="yuv444p")
    assert video("odd.mkv", "--output", "out", "--save", "overlay,labels") == 0
    assert stream_of("out/odd.mp4") == (3, 10.0, (64, 96))
    assert cv2.imread("out/odd_labels/000002.png", cv2.IMREAD_UNCHANGED).shape == (63, 95)
    assert "63x95 is padded by one pixel" in capsys.readouterr().out


def test_many_inputs_are_labelled_in_turn_with_one_engine(monkeypatch, capsys):
    loaded = []

    class CountedEngine(FakeEngine):
        def __init__(self, artifact, options):
            loaded.append(options.size_hw)
            super().__init__(artifact, options)

    copies = min(thread_budget().engine, Every().most_in_flight)  # of an engine, for several frames in flight

    monkeypatch.setattr("fakes.FakeEngine", CountedEngine)
    make_video("a.mp4", frames=3)
    make_video("b.mp4", frames=4)
    make_video("c.mp4", frames=2, size_hw=(128, 96))
    assert video("*.mp4", "--output", "out", "--json", "reports/all.json") == 0
    assert names("out") == ["a.mp4", "b.mp4", "c.mp4"]
    assert loaded == [(128, 192)] * copies + [(256, 192)] * copies  # a's engine served b as well
    report = json.loads(Path("reports/all.json").read_text())
    assert [entry["frames"] for entry in report["inputs"]] == [3, 4, 2]
    assert [entry["error"] for entry in report["inputs"]] == [None] * 3
    assert report["inputs"][2]["engine"]["size"] == [256, 192]
    assert report["environment"]["cores"] >= 1
    printed = capsys.readouterr().out
    assert all(f"out/{name}.mp4" in printed for name in "abc")


def test_what_is_cut_short_and_what_is_trimmed_on_purpose():
    make_video("cut.mkv", frames=90)
    Path("cut.mkv").write_bytes(Path("cut.mkv").read_bytes()[: Path("cut.mkv").stat().st_size // 2])
    make_video("whole.mp4", frames=40)
    trim_start(Path("whole.mp4"), Path("trimmed.mp4"), 13)
    assert video("cut.mkv", "trimmed.mp4", "--output", "out", "--json", "all.json") == 0
    cut, trimmed = json.loads(Path("all.json").read_text())["inputs"]
    (note,) = cut["notes"]
    assert re.search(rf"cut.mkv is cut short: it ended after {cut['frames']} of [89]\d frames", note)
    assert (trimmed["frames"], trimmed["notes"]) == (27, [])
    assert stream_of("out/trimmed.mp4")[0] == 27


def test_size_is_kept_for_all():
    make_video("a.mp4", frames=2)
    make_video("b.mp4", frames=2, size_hw=(128, 96))
    assert video("a.mp4", "b.mp4", "--output", "out", "--size", "32x64", "--json", "all.json") == 0
    assert [entry["engine"]["size"] for entry in json.loads(Path("all.json").read_text())["inputs"]] == [[32, 64]] * 2


def test_pictures_give_pictures():
    Path("shots").mkdir()
    for index, size_hw in enumerate([(64, 96), (33, 41)]):
        cv2.imwrite(f"shots/{index}.png", np.full((*size_hw, 3), 30, np.uint8))
    cv2.imwrite("one.jpg", np.full((64, 96, 3), 30, np.uint8))
    assert video("shots", "one.jpg", "--output", "out", "--save", "overlay,labels") == 0
    assert names("out") == ["one.png", "one_labels", "shots_labels", "shots_overlay"]
    assert cv2.imread("out/shots_overlay/000001.png").shape == (33, 41, 3)
    assert cv2.imread("out/shots_labels/000001.png", cv2.IMREAD_UNCHANGED).shape == (33, 41)


def test_show_and_opacity_reach_the_overlay():
    cv2.imwrite("one.png", np.full((256, 256, 3), 41, np.uint8))  # 41 mod 11: class 8, car
    assert video("one.png", "--output", "all", "--no-legend", "--opacity", "1") == 0
    assert video("one.png", "--output", "sky", "--no-legend", "--opacity", "1", "--show", "sky,road") == 0
    assert cv2.imread("all/one.png")[100, 100].tolist() == [128, 0, 64]
    assert cv2.imread("sky/one.png")[100, 100].tolist() == [41, 41, 41]


def test_what_fails_does_not_lose_the_others(capsys):
    make_video("a.mp4", frames=3)
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("no video")
    make_video("z.mp4", frames=2)
    inputs = ["a.mp4", "empty.mp4", "missing.mp4", "text.mp4", "z.mp4"]
    assert video(*inputs, "--output", "out", "--json", "all.json") == 3
    assert names("out") == ["a.mp4", "z.mp4"]
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: 3 of 5 inputs failed: empty.mp4 is empty")
    assert all(name in printed.err for name in ("missing.mp4", "text.mp4"))
    assert printed.out.count("failed: ") == 3
    errors = [entry["error"] for entry in json.loads(Path("all.json").read_text())["inputs"]]
    assert [bool(error) for error in errors] == [False, True, True, True, False]


def test_the_exit_code_is_that_of_the_first_failure(monkeypatch):
    make_video("a.mp4", frames=3)

    def full(self, frame, labels, picture):
        raise OutputError("the disk is full")

    monkeypatch.setattr("rtseg.sinks.video.VideoSink.write", full)
    assert video("a.mp4", "missing.mp4", "--output", "out") == 4
    assert names("out") == []


def test_a_failure_in_mid_run_leaves_playable_segments_but_no_final_name(monkeypatch, capsys):
    make_video("a.mp4", frames=32, rate=10)
    make_video("b.mp4", frames=2)
    original = VideoSink.write

    def full(self, frame, labels, picture):
        if frame.index == 31:
            raise OutputError("this folder is gone")
        original(self, frame, labels, picture)

    monkeypatch.setattr("rtseg.sinks.video.VideoSink.write", full)
    assert video("a.mp4", "b.mp4", "--output", "out", "--save", "labels,overlay", "--json", "all.json") == 4
    assert names("out") == ["a.partial", "b.mp4", "b_labels"]
    assert "a.mp4: this folder is gone" in capsys.readouterr().err
    assert names("out/a.partial/segments") == ["000000.mp4", "000001.mp4"]
    assert [stream_of(f"out/a.partial/segments/00000{number}.mp4")[0] for number in range(2)] == [12, 12]
    assert len(names("out/a.partial/a_labels")) == 24
    failed = json.loads(Path("all.json").read_text())["inputs"][0]
    assert (failed["outputs"], failed["frames"]) == (["out/a.partial"], 24)


def test_an_engine_that_fails_ends_the_run(monkeypatch, capsys):
    class BrokenEngine(FakeEngine):
        def __init__(self, artifact, options):
            super().__init__(artifact, options, fail_at=4, error=EngineError("the engine has stopped"))

    monkeypatch.setattr("fakes.FakeEngine", BrokenEngine)
    make_video("a.mp4", frames=8)
    make_video("b.mp4", frames=2)
    assert video("a.mp4", "b.mp4", "--output", "out") == 5
    assert "a.mp4" not in names("out")
    assert "b.mp4" not in names("out")
    assert capsys.readouterr().err == "error: the engine has stopped\n"


def test_ctrl_c_finishes_the_segment_and_the_same_command_goes_on(monkeypatch, capsys):
    class SlowEngine(FakeEngine):
        def __init__(self, artifact, options):
            super().__init__(artifact, options, delay_s=0.02)

    monkeypatch.setattr("fakes.FakeEngine", SlowEngine)
    make_video("a.mp4", frames=2)
    make_video("b.mp4", frames=120)

    def interrupt():
        while not Path("out/b.partial/segments/000000.mp4").exists():
            pause.wait(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    pause = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    assert video("a.mp4", "b.mp4", "--output", "out", "--json", "all.json") == 130
    thread.join()
    assert names("out") == ["a.mp4", "b.partial"]
    first, second = json.loads(Path("all.json").read_text())["inputs"]
    assert (first["frames"], first["error"], second["error"]) == (2, None, "interrupted")
    whole = names("out/b.partial/segments")
    assert sum(stream_of(f"out/b.partial/segments/{name}")[0] for name in whole) == second["frames"] > 0
    assert second["frames"] % 38 == 0  # 1.5 s: whole segments
    printed = capsys.readouterr().out
    assert "finishing the segment" in printed
    assert "the same command resumes" in printed
    assert video("a.mp4", "b.mp4", "--output", "out", "--json", "all.json") == 0
    assert names("out") == ["a.mp4", "b.mp4"]
    first, again = json.loads(Path("all.json").read_text())["inputs"]
    assert (first["skipped"], again["frames"], again["frames_of_earlier_runs"]) == (True, 120, second["frames"])
    assert stream_of("out/b.mp4")[0] == 120


def test_outputs_are_replaced_only_when_asked(capsys):
    make_video("a.mp4", frames=2)
    assert video("a.mp4", "--output", "out", "--save", "overlay,labels") == 0
    before = Path("out/a.mp4").read_bytes()
    make_video("a.mp4", frames=1)
    assert video("a.mp4", "--output", "out", "--save", "overlay,labels") == 0
    assert "newer than its outputs: --overwrite" in capsys.readouterr().out
    assert Path("out/a.mp4").read_bytes() == before
    Path("out/a_labels/notes.txt").write_text("mine")
    assert video("a.mp4", "--output", "out", "--save", "overlay,labels", "--overwrite") == 0
    assert stream_of("out/a.mp4")[0] == 1
    assert names("out/a_labels") == ["000000.png", "notes.txt"]


def test_outputs_that_are_missing_are_added():
    make_video("a.mp4", frames=2)
    assert video("a.mp4", "--output", "out") == 0
    before = Path("out/a.mp4").stat()
    assert video("a.mp4", "--output", "out", "--save", "overlay,labels,areas") == 0
    assert names("out") == ["a.mp4", "a_areas.csv", "a_labels"]
    assert Path("out/a.mp4").stat() == before


def test_what_is_added_has_the_precision_of_what_is_there(fake_network, monkeypatch):  # noqa: F811
    files = {"fp32": CardFile("fake.onnx", "0" * 64, 1), "int8": CardFile("fake.int8.onnx", "1" * 64, 1)}
    metrics = {"int8": {"camvid/val": {"miou": 0.5, "lost": 0.0}}}
    fake_card(engine_order=("fake",), files=files, metrics=metrics).save(fake_network / "fake.json")
    monkeypatch.setitem(TABLE, "fake", TABLE["fake"]._replace(runs_int8=True))
    monkeypatch.setattr(
        "rtseg.engines.auto.measure_rates", lambda *given: Measured({"fp32": Fps(10.0, 10.0), "int8": Fps(20.0, 20.0)})
    )
    make_video("a.mp4", frames=2)
    assert video("a.mp4", "--output", "out", "--precision", "fp32") == 0
    assert video("a.mp4", "--output", "out", "--save", "overlay,areas") == 0
    assert video("a.mp4", "--output", "new", "--save", "overlay,areas") == 0
    for folder, precision in (("out", "fp32"), ("new", "int8")):
        made = read_made(Job(Path("a.mp4"), Path(folder), ("overlay", "areas")))
        assert [made[kind]["settings"]["precision"] for kind in ("overlay", "areas")] == [precision] * 2


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_of_somebody_else_is_left_alone(overwrite, capsys):
    make_video("a.mp4", frames=2)
    make_video("b.mp4", frames=2)
    Path("out/a.partial").mkdir(parents=True)
    Path("out/a.partial/a.mp4").write_text("mine")
    assert video("a.mp4", "b.mp4", "--output", "out", "--save", "labels", *overwrite) == 4
    assert "a.partial was not made by rtseg and is left alone" in capsys.readouterr().err
    assert names("out") == ["a.partial", "b_labels"]
    assert Path("out/a.partial/a.mp4").read_text() == "mine"


def test_an_input_inside_unfinished_work_is_never_removed(capsys):
    Path("out/a.partial").mkdir(parents=True)
    make_video("out/a.partial/a.mp4", frames=2)
    assert video("out/a.partial/a.mp4", "--output", "out", "--overwrite") == 2
    assert "would replace the input" in capsys.readouterr().err
    assert stream_of("out/a.partial/a.mp4")[0] == 2


def test_unfinished_work_of_other_settings_is_not_mixed(monkeypatch, capsys):
    original = VideoSink.write

    def gone(self, frame, labels, picture):
        if frame.index == 31 and broken:
            raise OutputError("this folder is gone")
        original(self, frame, labels, picture)

    broken = [True]
    monkeypatch.setattr("rtseg.sinks.video.VideoSink.write", gone)
    make_video("a.mp4", frames=40, rate=10)
    assert video("a.mp4", "--output", "out") == 4
    broken.clear()
    for changed, said in (
        [("--opacity", "0.7"), "(opacity 0.5, now 0.7)"],
        [("--size", "32x64"), "(size 128x192, now 32x64)"],
        [
            ("--save", "overlay,areas", "--show", "car,road"),
            "(show all, now car,road; save overlay, now overlay,areas)",
        ],
        [("--model", "other"), "(model fake, now other)"],
    ):
        assert video("a.mp4", "--output", "out", *changed) == 4
        assert said in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr("rtseg.batch.plan.versions", lambda engine: {"rtseg": rtseg.__version__, "av": "999"})
        assert video("a.mp4", "--output", "out") == 4
    assert re.search(r"\(av \S+, now 999\)", capsys.readouterr().err)
    assert names("out/a.partial/segments") == ["000000.mp4", "000001.mp4"]
    assert video("a.mp4", "--output", "out", "--opacity", "0.7", "--overwrite", "--json", "all.json") == 0
    assert json.loads(Path("all.json").read_text())["inputs"][0]["frames_of_earlier_runs"] == 0
    assert names("out") == ["a.mp4"]


def test_outputs_of_two_networks_or_settings_are_not_mixed(capsys):
    make_video("a.mp4", frames=3)
    assert video("a.mp4", "--output", "out") == 0
    before = Path("out/a.mp4").read_bytes()
    for changed, said in (
        [("--save", "overlay,summary", "--model", "other", "--size", "32x64"), "(model fake, now other; size 128x192"],
        [("--save", "summary", "--model", "other"), "out/a.mp4 was made with other settings (model fake, now other)"],
        [("--save", "labels", "--opacity", "0.7"), "opacity 0.5, now 0.7"],
    ):
        assert video("a.mp4", "--output", "out", *changed) == 4
        assert said in capsys.readouterr().err
    assert names("out") == ["a.mp4"]
    assert video("a.mp4", "--output", "out", "--model", "other") == 0  # complete: skipped, with a message
    assert "out/a.mp4 was made with other settings (model fake, now other): --overwrite" in capsys.readouterr().out
    assert Path("out/a.mp4").read_bytes() == before
    assert video("a.mp4", "--output", "out", "--save", "overlay,areas") == 0
    assert video("a.mp4", "--output", "out", "--model", "other", "--save", "overlay", "--overwrite") == 0
    assert video("a.mp4", "--output", "out", "--model", "other", "--save", "strip") == 4  # the areas are still fake's
    assert "a_areas.csv was made with other settings" in capsys.readouterr().err
    Path("out/a_areas.csv").unlink()
    assert video("a.mp4", "--output", "out", "--model", "other", "--save", "overlay,areas,strip") == 0
    assert names("out") == ["a.mp4", "a_areas.csv", "a_strip.png"]


def test_the_record_is_the_same_after_a_break_between_two_outputs():
    job = Job(Path("a.mp4"), Path("out"), ("overlay", "areas", "labels"))
    facts = {"input": "stamp", "size_hw": [64, 96], "settings": {}}
    note_made(job, facts)
    record = Path("out", FOLDER, "a.json")
    whole = record.read_bytes()
    job.target("areas").touch()
    note_made(job, facts)
    assert record.read_bytes() == whole


def test_outputs_of_which_nothing_is_noted_are_added_to(capsys):
    make_video("a.mp4", frames=3)
    assert video("a.mp4", "--output", "out") == 0
    for content in ("[]", "no JSON", None):
        record = Path("out", FOLDER, "a.json")
        record.unlink() if content is None else record.write_text(content)
        assert video("a.mp4", "--output", "out", "--model", "other", "--save", "overlay,areas") == 0
        assert "areas added to outputs" in capsys.readouterr().out
        Path("out/a_areas.csv").unlink()


def test_an_input_that_was_replaced_is_not_added_to(capsys):
    make_video("a.mp4", frames=3)
    assert video("a.mp4", "--output", "out") == 0
    make_video("a.mp4", frames=4)
    assert video("a.mp4", "--output", "out", "--save", "overlay,areas") == 4
    assert "the input has changed" in capsys.readouterr().err


def test_a_report_of_a_dry_run_is_refused(capsys):
    make_video("a.mp4", frames=3)
    assert video("a.mp4", "--output", "out", "--dry-run", "--json", "plan.json") == 2
    assert "leave one of them out" in capsys.readouterr().err
    Path("folder").mkdir()
    assert video("a.mp4", "--output", "out", "--json", "folder") == 4
    assert "it is a folder" in capsys.readouterr().err
    assert not Path("out").exists()  # noticed before any work


def test_an_input_that_has_changed_is_not_mixed(monkeypatch, capsys):
    original = VideoSink.write

    def gone(self, frame, labels, picture):
        if frame.index == 31:
            raise OutputError("this folder is gone")
        original(self, frame, labels, picture)

    monkeypatch.setattr("rtseg.sinks.video.VideoSink.write", gone)
    make_video("a.mp4", frames=40, rate=10)
    assert video("a.mp4", "--output", "out") == 4
    make_video("a.mp4", frames=20, rate=10)
    assert video("a.mp4", "--output", "out") == 4
    assert "the input has changed" in capsys.readouterr().err
    assert video("a.mp4", "--output", "out", "--overwrite") == 0
    assert stream_of("out/a.mp4")[0] == 20


def test_two_runs_in_one_folder(capsys):
    make_video("a.mp4", frames=2)
    Path("out").mkdir()
    with output_lock(Path("out")):
        assert video("a.mp4", "--output", "out") == 4
    assert "another rtseg-video is writing to out" in capsys.readouterr().err
    assert video("a.mp4", "--output", "out") == 0
    assert names("out") == ["a.mp4"]


def test_a_folder_that_looks_like_a_camera_is_a_folder(capsys, one_worker):
    Path("0").mkdir()
    cv2.imwrite("0/one.png", np.zeros((64, 96, 3), np.uint8))
    assert video("0", "--output", "out", "--save", "labels", "--dry-run") == 0
    assert "64x96" in capsys.readouterr().out
    assert video("0", "--output", "out", "--save", "labels") == 0
    assert names("out") == ["0_labels"]


@pytest.fixture
def one_worker(monkeypatch):
    """Measures nothing, because worker processes do not know the fake engine."""
    measured = []

    def measure(job, choice, crew):
        measured.append(job.source.name)
        if job.source.name == "b.mp4":
            raise InputError("b.mp4: its timestamps are wrong")
        return replace(crew, fps=10.0)

    monkeypatch.setattr("rtseg.batch.crew.measure", measure)
    return measured


def test_a_dry_run_tells_what_it_cannot_know(one_worker, capsys):
    make_video("a.h264", frames=400)  # no header that gives the number of frames
    make_video("b.mp4", frames=3, size_hw=(32, 64))
    Path("empty.mp4").touch()
    assert video("a.h264", "b.mp4", "empty.mp4", "--output", "out", "--dry-run", "--ray", "auto") == 3
    printed = capsys.readouterr()
    assert "empty.mp4 is empty" in printed.err
    frames = int(re.search(r"64x96: (\d+) frames in 1 input at 10.0 fps", printed.out)[1])
    assert frames == pytest.approx(400, rel=0.05)
    assert "32x64: 3 frames in 1 input, not measured: b.mp4: its timestamps are wrong" in printed.out
    assert "for this machine alone" in printed.out
    assert "; without 1 input" in printed.out
    assert not Path("out").exists()


def test_the_same_pattern_goes_on_below_its_own_output():
    Path("deep").mkdir()
    make_video("deep/a.mp4", frames=2)
    for _ in range(2):
        assert video("**/*.mp4", "--output", "out") == 0
        assert names("out") == ["a.mp4"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "no input is given"),
        (["a.mp4", "--save", "overlays"], 2, "did you mean overlay"),
        (["a.mp4", "more/A.mkv"], 2, "same output name"),
        (["a.mp4", "--output", ".", "--overwrite"], 2, "would replace the input"),
        (["rtsp://host/stream"], 2, "rtseg-cam --source URL"),
        (["a.mp4", "--opacity", "2"], 2, "opacity 2"),
        (["a.mp4", "--show", "cart"], 2, "did you mean car"),
        (["a.mp4", "--threads", "100000"], 2, "100000 threads are not allowed: give 1 to"),
        (["a.mp4", "--jobs", "0"], 2, "0 jobs: give 1 or more"),
        (["a.mp4", "--size", "65x96"], 2, "the nearest is 64x96"),
        (["a.mp4", "--output", "a.mp4"], 4, "cannot write in folder a.mp4"),
        (["*.mov"], 3, "no file matches *.mov"),
        (["nothing"], 3, "holds no images"),
        (["synthetic"], 3, "no such file: synthetic"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, code, message, capsys):
    make_video("a.mp4", frames=1)
    Path("more").mkdir()
    make_video("more/A.mkv.mp4", frames=1)
    Path("more/A.mkv.mp4").rename("more/A.mkv")
    Path("nothing").mkdir()
    output = [] if "--output" in arguments else ["--output", "out"]
    assert video(*arguments, *output) == code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(Path().glob("out/*"))


def test_an_input_inside_an_output_is_never_replaced():
    Path("out/a_labels").mkdir(parents=True)
    make_video("a.mp4", frames=1)
    cv2.imwrite("out/a_labels/b.png", np.zeros((64, 96, 3), np.uint8))
    assert video("a.mp4", "out/a_labels/b.png", "--output", "out", "--save", "labels", "--overwrite") == 2
    assert Path("out/a_labels/b.png").exists()
