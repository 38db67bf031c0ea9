import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import numpy as np
import pytest
from fakes import (  # noqa: F401
    FakeEngine,
    FakeSource,
    fake_artifact,
    fake_card,
    fake_network,
    fake_segmenter,
    loop_threads,
    make_network,
)

import rtseg
from rtseg.apps import _plot
from rtseg.apps._console import run
from rtseg.apps.bench import app as bench_app
from rtseg.core.channel import Channel, Ended
from rtseg.core.errors import EngineError, InputError, UsageError, WeightsError
from rtseg.core.frame import Frame
from rtseg.core.machine import cores
from rtseg.core.runspec import RunSpec
from rtseg.core.threads import ThreadBudget, thread_budget
from rtseg.engines import EngineOptions
from rtseg.live.environment import environment
from rtseg.live.policies import Every, Newest
from rtseg.live.segmenter import Segmenter
from rtseg.live.spec import check_spec, default_size


@pytest.mark.parametrize(
    ("frame_hw", "expected"),
    [
        ((360, 480), (352, 480)),  # as trained: only rounded
        ((720, 960), (352, 480)),  # larger: its shape, as many pixels as trained at
        ((1080, 1920), (320, 544)),
        ((200, 300), (352, 512)),  # smaller: enlarged, because the network finds things at the scale it was trained on
        ((90, 120), (192, 256)),  # but at most to twice its height and width
        ((1, 1), (32, 32)),  # at least one multiple
        ((32, 4000), (32, 4640)),
    ],
)
def test_default_size(frame_hw, expected):
    assert default_size(fake_card(), frame_hw) == expected


def test_labels_come_back_at_the_size_of_any_frame():
    image = np.zeros((50, 70, 3), np.uint8)
    image[:, 35:] = 4
    with Segmenter(FakeEngine()) as segmenter:
        labels = segmenter(image)
        assert (labels.shape, labels.dtype) == ((50, 70), np.uint8)
        assert (labels[:, :30] == 0).all()
        assert (labels[:, 40:] == 4).all()
        assert np.array_equal(segmenter(Frame(image, 0, 0.0, 0.0)), labels)


def test_a_frame_may_be_resized_beforehand():
    image = np.random.default_rng(0).integers(0, 11, (128, 192, 3), np.uint8)
    segmenter = fake_segmenter([])
    assert segmenter.resize(image) is None  # no engine yet
    labels = segmenter(image)
    small = segmenter.resize(image)
    assert small.shape == (64, 96, 3)
    for resized in (None, small, small[:32, :32]):  # the last is of another engine: not used
        segmenter.submit(image, resized)
        made = segmenter.collect()
        assert np.array_equal(made.labels, labels)
        assert set(made.stages_s) == {"resize", "engine", "upsample"}
        assert (made.confidence, made.exit) == (None, "")


@pytest.mark.parametrize(
    ("threads", "policy", "shares"),
    [(3, Newest(), [3]), (3, Every(), [1, 1, 1]), (6, Every(), [2, 2, 1, 1]), (1, Every(), [1])],
)
def test_frames_in_flight_at_once_as_the_policy_allows(threads, policy, shares):
    made, in_flight = [], len(shares)
    with fake_segmenter(made, threads=threads) as segmenter:
        segmenter.prepare((64, 96), policy.most_in_flight)
        assert segmenter.info.in_flight == len(made) == in_flight
        assert [engine.info.threads for engine in made] == shares
        assert segmenter.info.threads == threads
        for value in range(in_flight):
            segmenter.submit(np.full((64, 96, 3), value, np.uint8))
        with pytest.raises(EngineError, match="collect"):
            segmenter.submit(np.zeros((64, 96, 3), np.uint8))
        assert [int(segmenter.collect().labels[0, 0]) for _ in range(in_flight)] == list(range(in_flight))
        with pytest.raises(EngineError, match="submit"):
            segmenter.collect()
    assert all(engine.released for engine in made)


def test_out_is_filled():
    image, out = np.full((64, 96, 3), 7, np.uint8), np.zeros((64, 96), np.uint8)
    assert Segmenter(FakeEngine())(image, out) is out
    assert (out == 7).all()


def test_labels_of_two_frames_do_not_alias():
    segmenter = Segmenter(FakeEngine())
    first = segmenter(np.full((64, 96, 3), 1, np.uint8))
    segmenter(np.full((64, 96, 3), 2, np.uint8))
    assert (first == 1).all()


def test_an_engine_that_upsamples_by_itself_is_left_to_do_it():
    class OnDevice(FakeEngine):
        def _labels(self, image, size_hw, out):
            return np.full(size_hw, 9, np.uint8), {}

    segmenter = Segmenter(OnDevice())
    segmenter.submit(np.zeros((50, 70, 3), np.uint8))
    made = segmenter.collect()
    assert (made.labels == 9).all()
    assert set(made.stages_s) == {"resize", "engine"}


@pytest.mark.parametrize(
    "picture",
    [np.zeros((64, 96), np.uint8), np.zeros((64, 96, 4), np.uint8), np.zeros((64, 96, 3)), np.zeros((0, 96, 3), "u1")],
)
def test_a_picture_of_another_kind_is_refused(picture):
    with pytest.raises(UsageError, match="uint8 BGR"):
        Segmenter(FakeEngine())(picture)


def test_the_engine_is_loaded_for_the_first_frame():
    loaded = []

    def loader(name, artifact, options):
        loaded.append((name, options))
        return FakeEngine(artifact, options)

    segmenter = Segmenter(RunSpec(fake_artifact()), budget=ThreadBudget(3, 2, 1, 1), loader=loader)
    with pytest.raises(UsageError, match="prepare"):
        segmenter.info  # noqa: B018
    segmenter.prepare((720, 960))
    segmenter(np.zeros((720, 960, 3), np.uint8))
    assert loaded == [("auto", EngineOptions((352, 480), "auto", 2))]
    assert segmenter.info.size_hw == (352, 480)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engine": "onnxrutime"}, "did you mean onnxruntime"),
        ({"precision": "fp23"}, "did you mean fp32"),
        ({"size_hw": (100, 200)}, "the nearest is 96x192"),
    ],
)
def test_a_wrong_spec_is_found_before_anything_is_loaded(wrong, message):
    for use in (check_spec, Segmenter):
        with pytest.raises(UsageError, match=message):
            use(RunSpec(fake_artifact(), **wrong))


@pytest.mark.usefixtures("fake_network")
def test_load_and_stream():
    with rtseg.load("fake", size="64x96") as segmenter:
        seen = [(frame.index, int(labels[0, 0])) for frame, labels in rtseg.stream(FakeSource(15), segmenter)]
    assert seen == [(index, index % 11) for index in range(15)]
    assert loop_threads() == []


@pytest.mark.usefixtures("fake_network")
def test_a_stream_that_is_dropped_closes_its_source():
    source = FakeSource(None)
    stream = rtseg.stream(source, rtseg.load("fake"))
    next(stream)
    stream.close()
    assert source.closed == 1
    assert loop_threads() == []


@pytest.mark.usefixtures("fake_network")
def test_a_stream_opens_its_source_at_once_and_closes_it_unread():
    with pytest.raises(rtseg.RtsegError, match=r"nope\.mp4"):
        rtseg.stream("nope.mp4", rtseg.load("fake"))
    source = FakeSource(None)
    rtseg.stream(source, rtseg.load("fake")).close()
    assert source.closed == 1
    assert loop_threads() == []


def test_a_stream_decodes_with_the_threads_of_its_segmenter(monkeypatch):
    asked = {}
    monkeypatch.setattr("rtseg.live.api.open_source", lambda source, **given: asked.update(given) or FakeSource(2))
    segmenter = Segmenter(FakeEngine(), budget=ThreadBudget(8, 6, 2, 3))
    assert len(list(rtseg.stream("a.mp4", segmenter))) == 2
    assert asked == {"threads": 3}


def test_a_stream_that_fails_gives_the_original_error():
    error = InputError("gone")
    stream = rtseg.stream(FakeSource(None, fail_at=3, error=error), Segmenter(FakeEngine()))
    with pytest.raises(InputError) as caught:
        list(stream)
    assert caught.value is error


@pytest.mark.usefixtures("fake_network")
def test_load_names_what_it_does_not_know():
    with pytest.raises(UsageError, match="did you mean fake"):
        rtseg.load("fak")
    with pytest.raises(WeightsError, match="no such file"):
        rtseg.load("my/net.onnx")


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": None}, "a model is a name"),
        ({"engine": None}, "unknown engine None"),
        ({"precision": 16}, "unknown precision 16"),
        ({"size": 256}, "size 256 is not"),
        ({"size": (64.0, 128.0)}, r"size \(64.0, 128.0\) is not"),
        ({"size": (64, 128, 3)}, "is not"),
        ({"size": (0, 64)}, "is not"),
        ({"threads": "2"}, "'2' threads are not allowed"),
        ({"threads": 1.5}, "1.5 threads are not allowed"),
    ],
)
def test_load_refuses_values_of_other_types(given, words):
    with pytest.raises(UsageError, match=words):
        rtseg.load(**{"model": "fake", **given})


STRANGE = (object(), b"x", 1j, type, {"a": 1}, np.zeros((3, 2)), np.zeros((2, 3, 4)))
RUNS = ("model", "engine", "precision", "size", "threads")
CALLS = {
    "load": (partial(rtseg.load, model="fake"), RUNS),
    "anytime": (partial(rtseg.anytime, deadline_ms=30, model="fake"), ("deadline_ms", *RUNS)),
    "open_source": (
        partial(rtseg.open_source, spec="synthetic"),
        ("spec", "size_hw", "fps", "camera_size", "seed", "timeout_s", "threads"),
    ),
}


def refused(call, *given, **named):
    with pytest.raises(UsageError) as caught:
        call(*given, **named)
    return len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("call", CALLS)
def test_every_argument_of_the_library_says_in_a_line_what_it_takes(call):
    """Some ended in a TypeError about an operator, others in an error of many lines."""
    function, arguments = CALLS[call]
    assert all(refused(function, **{argument: given}) for argument in arguments for given in STRANGE)


@pytest.mark.parametrize("given", [*STRANGE, "0.5", -1, float("nan")], ids=lambda given: type(given).__name__)
def test_every_argument_of_a_segmenter_says_in_a_line_what_it_takes(given):
    segmenter = Segmenter(FakeEngine())
    labels, frame, ids = segmenter.labels, np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)

    def drawing(name):
        usual = {"image": frame, "labels": ids, "label_set": labels}
        return lambda given: rtseg.overlay(**{**usual, name: given})

    calls = [segmenter, segmenter.submit, segmenter.logits, segmenter.confidence, segmenter.with_confidence,
             segmenter.areas, segmenter.prepare, partial(segmenter.prepare, (64, 96)), partial(segmenter, frame),
             lambda given: segmenter.at_scale(given, (64, 96)), labels.index, labels.indices,
             partial(rtseg.stream, "synthetic"),
             *map(drawing, ("image", "labels", "label_set", "opacity", "unsure", "show"))]  # fmt: skip
    calls += [] if isinstance(given, str) else [labels.split_names]
    calls += [] if isinstance(given, int) else [drawing("legend")]
    assert all(refused(call, given) for call in calls)


@pytest.mark.usefixtures("fake_network")
def test_numbers_of_numpy_are_numbers():
    segmenter = Segmenter(FakeEngine())
    frame, ids, half = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8), np.float32(0.5)
    sure = np.zeros((64, 96), np.uint8)
    drawn = rtseg.overlay(frame, ids, segmenter.labels, half, legend=np.True_, confidence=sure, unsure=half)
    assert np.array_equal(drawn, rtseg.overlay(frame, ids, segmenter.labels, 0.5, legend=True, confidence=sure))
    assert rtseg.anytime(np.float32(30), "fake").policy.deadline_s == pytest.approx(0.03)


def test_load_takes_paths_and_whole_numbers_of_any_kind(tmp_path):
    path = make_network(tmp_path)
    for model in (path, str(path)):
        with rtseg.load(model, size=[np.int64(64), 96], engine="onnxruntime", threads=np.int64(1)) as segmenter:
            assert segmenter(np.zeros((64, 96, 3), np.uint8)).shape == (64, 96)
            assert segmenter.info.size_hw == (64, 96)
            assert json.dumps([segmenter.info.threads, *segmenter.info.size_hw]) == "[1, 64, 96]"
    with pytest.raises(WeightsError, match="no such file"):
        rtseg.load(tmp_path / "missing.onnx")


@pytest.mark.parametrize("frame", [None, "a.png", [[0, 1]]])
def test_what_is_no_array_is_refused(frame):
    segmenter = Segmenter(FakeEngine())
    for use in (segmenter, segmenter.submit):
        with pytest.raises(UsageError, match=f"not {type(frame).__name__}"):
            use(frame)


def test_a_stream_without_a_segmenter_is_refused():
    with pytest.raises(UsageError, match="not NoneType"):
        rtseg.stream(FakeSource(3), None)


def test_a_stream_of_what_is_closed_is_refused():
    with Segmenter(FakeEngine()) as segmenter:
        source = FakeSource(3)
        assert len(list(rtseg.stream(source, segmenter))) == 3
        with pytest.raises(UsageError, match="was read by an earlier stream: open it again"):
            rtseg.stream(source, segmenter)
    with pytest.raises(UsageError, match="a stream needs a segmenter"):
        rtseg.stream(FakeSource(3), Segmenter)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"threads": -5}, "-5 threads are not allowed"),
        ({"threads": "2"}, "'2' threads are not allowed"),
        ({"timeout_s": -1}, "timeout_s -1 is not allowed"),
        ({"timeout_s": "x"}, "timeout_s 'x' is not allowed"),
        ({"seed": 1.5}, "seed 1.5 is not allowed"),
        ({"size_hw": "64"}, "size '64' is not HEIGHTxWIDTH"),
        ({"camera_size": 64}, "size 64 is not"),
    ],
)
def test_a_source_refuses_values_of_other_types(given, words):
    with pytest.raises(UsageError, match=words):
        rtseg.open_source("synthetic", **given)


def test_out_that_takes_no_labels_is_refused():
    image = np.zeros((64, 96, 3), np.uint8)
    with Segmenter(FakeEngine()) as segmenter:
        with pytest.raises(UsageError, match=r"out must be an array, .*, not list"):
            segmenter(image, out=[0])
        with pytest.raises(UsageError, match="out goes with one picture"):
            segmenter([image], out=np.empty((64, 96), np.uint8))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_an_engine_of_the_process_before_a_fork_is_not_freed_in_the_child():
    engine = FakeEngine()
    child = os.fork()
    if child == 0:
        engine.close()
        os._exit(engine.released)  # freeing it would wait for threads that do not exist
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    engine.close()
    assert engine.released


def test_a_segmenter_in_a_stream_is_not_for_others():
    frame, source = np.zeros((64, 96, 3), np.uint8), FakeSource(3)
    with Segmenter(FakeEngine()) as segmenter:
        stream = rtseg.stream(FakeSource(None), segmenter)
        next(stream)
        with pytest.raises(UsageError, match="in use by a stream or another thread: load a second one"):
            segmenter(frame)
        with pytest.raises(UsageError, match="in use"):
            next(rtseg.stream(source, segmenter))
        assert source.closed == 1
        assert next(stream)[1].shape == (64, 96)  # unaffected
        stream.close()
        assert segmenter(frame).shape == (64, 96)
        assert len(list(rtseg.stream(FakeSource(3), segmenter))) == 3


def test_two_threads_do_not_share_a_segmenter():
    entered, leave = Event(), Event()

    class Slow(FakeEngine):
        def labels(self, image, size_hw, out=None):
            entered.set()
            leave.wait(10)
            return super().labels(image, size_hw, out)

    frame = np.zeros((64, 96, 3), np.uint8)
    with Segmenter(Slow()) as segmenter, ThreadPoolExecutor(1) as pool:
        first = pool.submit(segmenter, frame)
        assert entered.wait(10)
        try:
            with pytest.raises(UsageError, match="another thread"):
                segmenter(frame)
        finally:
            leave.set()
        assert first.result(10).shape == segmenter(frame).shape == (64, 96)


def test_a_segmenter_that_failed_may_be_used_again():
    segmenter, frame = Segmenter(FakeEngine()), np.zeros((64, 96, 3), np.uint8)
    for _ in range(2):
        with pytest.raises(UsageError, match="out"):
            segmenter(frame, np.zeros((1, 1), np.uint8))
    assert segmenter(frame).shape == (64, 96)


def test_a_segmenter_that_is_closed_loads_nothing():
    made, frame = [], np.zeros((64, 96, 3), np.uint8)
    segmenter = fake_segmenter(made)
    segmenter.close()
    for use in (lambda: segmenter(frame), lambda: segmenter.submit(frame), lambda: segmenter.prepare((64, 96))):
        with pytest.raises(EngineError, match="this segmenter is closed"):
            use()
    assert made == []


def test_channel_waits_or_keeps_the_newest():
    newest = Channel(1, newest=True)
    assert all(newest.put(item) for item in range(4))
    assert (newest.get(), newest.dropped) == (3, 3)
    assert newest.get(timeout_s=0.01) is None
    newest.put(4)
    newest.close()
    assert newest.put(5) is False
    assert newest.get() == 4
    with pytest.raises(Ended):
        newest.get()


@pytest.mark.parametrize(
    ("total", "budget"),
    [
        (1, ThreadBudget(1, 1, 1, 1)),
        (2, ThreadBudget(2, 2, 1, 1)),
        (4, ThreadBudget(4, 3, 1, 1)),
        (16, ThreadBudget(16, 12, 4, 4)),
    ],
)
def test_thread_budget(total, budget, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert thread_budget(total) == budget
    assert thread_budget().total == cores() >= 1


@pytest.mark.parametrize("threads", [-1, 0, 100_000])
def test_more_threads_than_cores_or_none_are_refused(threads):
    with pytest.raises(UsageError, match=f"{threads} threads.*give 1 to"):
        thread_budget(threads)


def test_environment_says_what_it_ran_on():
    found = environment()
    json.dumps(found, allow_nan=False)
    assert found["packages"]["numpy"] == np.__version__
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert found["cpu"]


def bench(*arguments):
    size = [] if "--source" in arguments else ["--source-size", "96x128"]
    with pytest.raises(SystemExit) as ended:
        run(bench_app, ["--frames", "6", *size, *arguments])
    return ended.value.code


@pytest.mark.slow
@pytest.mark.usefixtures("fake_network")
def test_bench_measures_every_combination(tmp_path, capsys):
    path, picture = tmp_path / "bench.json", tmp_path / "plot.svg"
    sizes = ["--size", "32x64", "64x96"]
    assert bench("--runs", "4", "--model", "fake", "other", *sizes, "--json", str(path), "--plot", str(picture)) == 0
    data = json.loads(path.read_text())
    keys = [(result["model"], result["engine"], tuple(result["size"])) for result in data["results"]]
    assert keys == [("fake", "fake", (32, 64)), ("fake", "fake", (64, 96)), ("other", "fake", (32, 64)),
                    ("other", "fake", (64, 96))]  # fmt: skip
    for result in data["results"]:
        assert result["engine_ms"]["n"] == 4
        assert {"p50", "p90", "p99"} <= set(result["engine_ms"])
        assert {"engine", "upsample", "draw", "write"} <= set(result["stages_ms"])
        assert result["frames"] == 6
        assert result["end_to_end_fps"] > 0
        assert result["miou"] == {"camvid/val": 0.5}
    assert data["environment"]["cores"] >= 1
    assert "other" in capsys.readouterr().out
    assert "64x96" in picture.read_text()


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "fak"], 2, "did you mean fake"),
        (["--runs", "1"], 2, "--runs 1"),
        (["--size", "33x64"], 2, "the nearest is 32x64"),
        (["--plot", "plot.txt"], 2, "allowed: .png"),
        (["--source", "missing.mp4"], 3, "no such file"),
        (["--split", "cityscapes/val", "--plot", "plot.png"], 2, "stated: camvid/val"),
    ],
)
def test_bench_says_in_one_line_what_is_wrong(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bench(*arguments) == code
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def test_a_plot_without_matplotlib_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(_plot, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"rtseg\[train\]"):
        _plot.check_plot(tmp_path / "plot.png", "camvid/val", {"camvid/val"})
