"""Engines that never answer and disks that stall: the loop ends, and recordings are complete. No test waits."""

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread

import av
import numpy as np
import pytest
from fakes import FakeEngine, FakeSink, FakeSource, FakeView, fake_segmenter, loop_threads, make_network
from test_deadline_loop import anytime
from videos import make_video
from waits import HANGS_S

import rtseg
from rtseg.core.channel import ThreadGroup, any_stuck
from rtseg.core.errors import EngineError, OutputError, StalledError
from rtseg.core.runspec import RunSpec
from rtseg.core.watchdog import Watchdog, thread_clock, unwatched, watched_too
from rtseg.engines.pool import EnginePool
from rtseg.live.labellers.averaging import Averaging
from rtseg.live.labellers.rebuilding import Rebuilding
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.pipeline import Pipeline, Result
from rtseg.live.segmenter import Segmenter
from rtseg.live.views.desk import Desk
from rtseg.pictures import upsample
from rtseg.sinks.video import VideoSink

LATE = EngineError("late")
BY_HAND = {"every_s": 1000.0, "most_s": 3000.0}  # late at the third look after the first; its thread never looks


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    upsample.warm_up()
    yield
    assert loop_threads() == []


@pytest.fixture
def by_hand(monkeypatch):
    for module in ("pipeline", "writer"):
        monkeypatch.setattr(f"rtseg.live.{module}.Watchdog", partial(Watchdog, **BY_HAND))
    monkeypatch.setattr("rtseg.live.pipeline._JOIN_S", 0.05)
    monkeypatch.setattr("rtseg.live.writer._LOOK_S", 0.02)


def watchdog():
    made = ThreadGroup()
    return Watchdog(made, **BY_HAND), made


def look(dog, times):
    for _ in range(times):
        dog.look()


def test_a_call_that_stays_the_same_is_late():
    dog, group = watchdog()
    with dog.call(lambda: LATE):
        look(dog, 3)
        assert (dog.late, group.error) == (False, None)
        dog.look()
        assert (dog.late, group.error) == (True, LATE)


def test_calls_that_end_are_not_late_and_nor_is_what_lies_between_them():
    dog, group = watchdog()
    for _ in range(5):
        with suppress(KeyError), dog.call(lambda: LATE):
            look(dog, 3)
            raise KeyError
    look(dog, 10)
    assert group.error is None


def test_the_older_of_two_calls_is_late():
    dog, group = watchdog()
    errors = [EngineError("older"), EngineError("newer")]
    with dog.call(lambda: errors[0]):
        dog.look()
        with dog.call(lambda: errors[1]):
            look(dog, 3)
    assert group.error is errors[0]


@pytest.mark.parametrize(("each_s", "late"), [(0.6, False), (0.5, True), (0.0, True)])
def test_who_uses_the_processor_is_not_late(each_s, late):
    dog, _ = watchdog()
    used = [0.0]
    with dog.call(lambda: LATE, lambda: used[0], busy_s=0.55):
        for _ in range(20):
            used[0] += each_s
            dog.look()
    assert dog.late is late


def test_it_is_late_once_it_has_done_nothing_for_so_long_in_a_row():
    dog, _ = watchdog()
    used = [0.0]
    with dog.call(lambda: LATE, lambda: used[0]):
        for step in (0, 0, 0, 1, 0, 0):
            used[0] += step
            dog.look()
        assert not dog.late
        dog.look()
        assert dog.late


def test_a_thread_that_has_just_ended_is_not_late():
    def used():
        raise OSError("no such thread")

    dog, group = watchdog()
    with dog.call(lambda: LATE, used):
        look(dog, 10)
    assert group.error is None


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="this system tells no thread's time")
def test_a_thread_that_works_is_not_late():
    dog, group = watchdog()
    with dog.call(lambda: LATE, thread_clock()):
        look(dog, 50)  # what its thread would do
    assert group.error is None


def test_a_thread_that_waits_is_late():
    dog, _ = watchdog()
    end = Event()

    def wait():
        with dog.call(lambda: LATE, thread_clock()):
            end.wait()

    thread = Thread(target=wait)
    thread.start()
    while not dog.late:  # it reaches its wait sooner or later
        dog.look()
    end.set()
    thread.join()


def test_where_no_clock_of_a_thread_is_told_it_stands(monkeypatch):
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    assert thread_clock()() == 0.0


def test_what_may_take_long_inside_a_call_is_not_watched():
    dog, group = watchdog()
    with unwatched():
        pass
    with dog.call(lambda: LATE):
        look(dog, 3)
        with unwatched():
            look(dog, 10)
        look(dog, 2)
        assert group.error is None
        look(dog, 2)
        assert group.error is LATE


def test_what_a_call_hands_on_to_another_thread_is_watched():
    dog, group = watchdog()
    seen = []

    def work():
        look(dog, 4)
        seen.append(group.error)

    assert watched_too(work, lambda: LATE) is work
    with dog.call(lambda: EngineError("it has returned")):
        handed = watched_too(work, lambda: LATE)
    thread = Thread(target=handed)
    thread.start()
    thread.join()
    assert seen == [LATE]


def test_its_thread_looks_by_itself_and_ends_with_its_owner():
    group, failed = ThreadGroup(), Event()
    dog = Watchdog(group, every_s=0.001, most_s=0.003)
    dog.start()
    with dog.call(lambda: failed.set() or LATE):
        assert failed.wait(HANGS_S)
    assert group.join(HANGS_S)
    other = Watchdog(group)
    other.start()
    assert loop_threads() == ["rtseg-watchdog"]
    other.close()
    assert group.join(HANGS_S)
    assert group.error is LATE


# The loop


class Hanging(FakeEngine):
    """Never answers for frame 7 before `go_on` is set."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.hangs, self.go_on = Event(), Event()

    def _infer(self, image):
        if image[0, 0, 0] == 7:
            self.hangs.set()
            assert self.go_on.wait(HANGS_S)
        return super()._infer(image)


class Looking(FakeView):
    """Once an engine hangs and `least` pictures have been shown, calls `then` at every turn of the loop."""

    def __init__(self, engines, least, then):
        super().__init__()
        self.engines, self.least, self.then = engines, least, then

    def poll(self, loop):
        if len(self.shown) >= self.least and any(engine.hangs.is_set() for engine in self.engines):
            self.then(loop)


def look_at_engines(loop):
    loop._pipeline._watchdog.look()


def hanging(kind):
    """A labeller of the given kind, and its engines."""
    made = []
    if kind == "anytime":
        made.append(Hanging())
        return anytime(0.1, made[0]), made

    def load(name, artifact, options):
        def make(*arguments):
            made.append(Hanging(*arguments))
            return made[-1]

        return EnginePool(make, artifact, options) if options.in_flight > 1 else make(artifact, options)

    def open_segmenter():
        segmenter = fake_segmenter([], threads=3 if kind == "pool" else 1)
        segmenter._loader = load
        return segmenter

    return Rebuilding(open_segmenter) if kind == "rebuilding" else open_segmenter(), made


def let_go(loop, labeller, engines):
    """Ends what hangs, so that no thread is left and its user can release it."""
    for engine in engines:
        engine.go_on.set()
    assert loop._pipeline.crew.join(HANGS_S)
    labeller.release()
    assert all(engine.released for engine in engines)


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("kind", ["plain", "pool", "rebuilding", "anytime"])
def test_an_engine_that_hangs_ends_the_loop_and_stays_open(kind, tmp_path, caplog):
    caplog.set_level(logging.INFO, "rtseg")
    labeller, engines = hanging(kind)
    live, least = kind == "anytime", 8 if kind == "anytime" else 7
    source = FakeSource(None if live else 11, live=live, delay_s=0.004 if live else 0.0)
    sink = VideoSink(tmp_path / "a.mp4", (64, 96), 25.0)
    loop = Loop(source, labeller, sinks=[sink], view=Looking(engines, least, look_at_engines))
    with pytest.raises(StalledError, match=r"on fake \(CPU\) has not answered for 120 s: the device or its driver may"):
        loop.run()
    labeller.close()
    assert not any(engine.released for engine in engines)
    assert "stays open" in caplog.text
    assert "loaded again" not in caplog.text
    assert any_stuck()
    let_go(loop, labeller, engines)
    assert not any_stuck()
    with av.open(str(sink.partial_path)) as container:
        written = sum(1 for _ in container.decode(video=0))
    assert written == sink.frames >= least
    assert live or written == 7


@pytest.mark.usefixtures("by_hand")
def test_who_stops_the_loop_while_an_engine_hangs_does_not_wait_for_it():
    labeller, engines = hanging("pool")
    sink = FakeSink()
    loop = Loop(FakeSource(11), labeller, sinks=[sink], view=Looking(engines, 7, Loop.stop))
    assert loop.run().frames == 7
    assert sink.closed_as is True
    labeller.close()
    assert not any(engine.released for engine in engines)
    assert any_stuck()
    let_go(loop, labeller, engines)


def test_an_engine_that_is_loaded_again_is_not_late():
    dog, group = watchdog()
    made = []

    def make():
        look(dog, 10)
        made.append(Segmenter(FakeEngine(fail_at=None if made else 1, error=EngineError("out of memory"))))
        return made[-1]

    labeller = Rebuilding(make)
    source = FakeSource(2)
    with dog.call(lambda: LATE):
        labels = [labeller(source.read()) for _ in range(2)]
    assert [int(each[0, 0]) for each in labels] == [0, 1]
    assert (len(made), group.error) == (2, None)
    labeller.close()


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("where", ["write", "close"])
def test_a_sink_that_hangs_ends_the_loop(where):
    hangs, go_on = Event(), Event()

    class Stalled(FakeSink):
        def write(self, frame, labels, picture):
            super().write(frame, labels, picture)
            if where == "write" and frame.index == 3:
                self.wait()

        def close(self, complete=True):
            super().close(complete)
            if where == "close":
                self.wait()

        def wait(self):
            hangs.set()
            assert go_on.wait(HANGS_S)

    def look_at_writer():
        assert hangs.wait(HANGS_S)
        while not loop._writer._watchdog.late:
            loop._writer._watchdog.look()

    sink, kept = Stalled(), FakeSink()
    view = FakeView(after={5: lambda loop: loop.remove_sink(sink)} if where == "close" else {})
    loop = Loop(FakeSource(None), Segmenter(FakeEngine()), sinks=[sink, kept], view=view)
    looking = Thread(target=look_at_writer)
    looking.start()
    with pytest.raises(OutputError, match="nothing could be written for 120 s: is the disk or network folder stalled"):
        loop.run()
    looking.join()
    assert sink.closed_as is (True if where == "close" else None)  # closing it while it is written to could crash
    assert any_stuck()
    go_on.set()
    assert loop._writer._threads.join(HANGS_S)


# Closing what is in use


def test_a_segmenter_that_is_closed_in_mid_stream_is_freed_at_its_end():
    engine = FakeEngine()
    segmenter = Segmenter(engine)
    stream = rtseg.stream(FakeSource(None), segmenter)
    next(stream)
    segmenter.close()
    assert not engine.released
    stream.close()
    assert engine.released


def test_all_engines_of_an_average_are_freed_when_its_user_lets_go():
    made = []
    labeller = Averaging(fake_segmenter(made), scales=(1.0, 0.5))
    labeller.claim()
    labeller.prepare((64, 96))
    labeller.close()
    assert [engine.released for engine in made] == [False, False]
    labeller.release()
    assert [engine.released for engine in made] == [True, True]


@pytest.mark.parametrize("stuck", [True, False])
def test_who_leaves_does_not_wait_for_a_network_that_is_loaded_beside_one_that_hangs(stuck, monkeypatch):
    monkeypatch.setattr("rtseg.live.views.desk.any_stuck", lambda: stuck)
    engine, go_on, closed = FakeEngine(), Event(), Event()
    loaded = Segmenter(engine)

    def open_labeller(spec, frame_hw):
        assert go_on.wait(HANGS_S)
        return loaded

    frame = FakeSource(1).read()
    desk = Desk(Painter(), lambda path: None, [], open_labeller, RunSpec("fake"))
    desk.shown = Result(frame, frame.image[..., 0], loaded.card, loaded.info, {}), frame.image
    desk._load(engine="onnxruntime")
    leaving = Thread(target=lambda: (desk.close(), closed.set()))
    leaving.start()
    if stuck:
        assert closed.wait(HANGS_S)
    go_on.set()
    leaving.join()
    assert engine.released is not stuck
    desk._loader.shutdown()


# The command

HANGS = """
import sys, threading
from functools import partial
from rtseg.apps import cam
from rtseg.core.watchdog import Watchdog
from rtseg.engines.onnxruntime_engine import OnnxRuntimeEngine
from rtseg.live import pipeline

plain, calls = OnnxRuntimeEngine._infer, []

def infer(self, image):
    calls.append(1)
    if len(calls) > 12:
        threading.Event().wait()
    return plain(self, image)

OnnxRuntimeEngine._infer = infer
pipeline.Watchdog = partial(Watchdog, every_s=0.1, most_s=1.0)
pipeline._JOIN_S = 0.1
cam.main()
"""


def test_a_command_whose_engine_hangs_ends_with_one_line(tmp_path):
    """Its engines are in a pool, whose threads Python waits for at exit."""
    network = make_network(tmp_path)
    options = ["--model", network, "--engine", "onnxruntime", "--precision", "fp32", "--threads", "2",
               "--source", make_video(tmp_path / "in.mp4", 30, (64, 96)), "--no-window",
               "--record", tmp_path / "a.mp4"]  # fmt: skip
    root = Path(rtseg.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", HANGS, *map(str, options)],
        env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=HANGS_S,
    )  # fmt: skip
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: tiny on onnxruntime (CPU) has not answered for")
    assert "a.partial.mp4: the recording so far" in done.stdout
    with av.open(str(tmp_path / "a.partial.mp4")) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert 1 <= len(pictures) <= 12
    assert all(np.ptp(picture) > 0 for picture in pictures)


def test_an_engine_that_fails_ends_the_loop_though_what_is_in_flight_never_comes_back(monkeypatch):
    labeller, go_on = fake_segmenter([]), Event()
    labeller.prepare((64, 96))
    monkeypatch.setattr("rtseg.live.pipeline._JOIN_S", 0.05)

    def fail():
        raise EngineError("the device is lost")

    monkeypatch.setattr(labeller, "collect", fail)
    monkeypatch.setattr(labeller, "discard", lambda: go_on.wait(HANGS_S))
    loop = Loop(FakeSource(None), labeller)
    with pytest.raises(EngineError, match="the device is lost"):
        loop.run()
    assert not go_on.is_set()
    go_on.set()
    assert loop._pipeline.crew.join(HANGS_S)


@pytest.mark.parametrize("live", [False, True])
def test_who_waits_for_a_cpu_engine_is_excused_while_something_computes_but_not_a_live_source(live):
    labeller, source = fake_segmenter([]), FakeSource(None)
    source.live = live
    labeller.prepare((64, 96))
    pipeline = Pipeline(source, labeller)
    with pipeline._watched():
        (call,) = pipeline._watchdog._calls
        assert call.used is (None if live else time.process_time)
