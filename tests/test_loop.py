import signal
import threading
from dataclasses import replace
from itertools import count
from time import perf_counter, sleep

import pytest
from fakes import FakeEngine, FakeSink, FakeSource, FakeView, fake_segmenter, loop_threads
from waits import HANGS_S

from rtseg.core.errors import EngineError, InputError, OutputError
from rtseg.live.labellers.wrapper import Wrapper
from rtseg.live.loop import Loop
from rtseg.live.pipeline import Pipeline
from rtseg.live.policies import Every, Newest
from rtseg.live.report import LoopStats
from rtseg.live.segmenter import Segmenter
from rtseg.pictures import upsample
from rtseg.sinks.base import NullSink


@pytest.fixture(autouse=True, scope="module")
def _kernels():
    upsample.warm_up()


@pytest.fixture(autouse=True)
def _leaves_no_thread(_kernels):
    """Tests have no limits of their own: pytest's ends one that waits for something that never comes."""
    yield
    assert loop_threads() == []


class Clock:
    """The loop's clock; runs like the real one, however busy the machine is, and jumps on request."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return perf_counter() + self.ahead_s

    def jump(self, seconds):
        self.ahead_s += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    for module in ("fakes", "rtseg.live.loop", "rtseg.live.pipeline", "rtseg.live.report"):
        monkeypatch.setattr(f"{module}.perf_counter", made)
    return made


def wait_until(condition):
    while not condition():
        sleep(0.001)


def segmenter(threads=1, **settings):
    return fake_segmenter([], threads=threads, **settings) if threads > 1 else Segmenter(FakeEngine(**settings))


def test_all_frames_of_a_file_are_written_in_order_with_their_labels():
    source, sink = FakeSource(30), FakeSink()
    report = Loop(source, segmenter(), sinks=[sink]).run()
    assert sink.indices == list(range(30))
    assert sink.labels == [index % 11 for index in range(30)]
    assert (report.frames, report.drops) == (30, 0)
    assert source.closed == 1
    assert sink.closed_as is True


def test_frames_under_way_at_once_come_out_in_order_and_none_is_lost():
    made, sink = [], FakeSink()
    report = Loop(FakeSource(41), fake_segmenter(made, threads=4, delay_s=0.004), sinks=[sink]).run()
    assert sink.indices == list(range(41))
    assert sink.labels == [index % 11 for index in range(41)]
    assert report.engine.in_flight == len(made) == 4
    assert all(engine.calls for engine in made)  # all four worked
    assert {"resize", "engine", "upsample"} <= set(report.stages_ms)


def test_a_live_frame_never_waits_behind_another():
    made = []
    source = FakeSource(20, live=True, delay_s=0.002)
    report = Loop(source, fake_segmenter(made, threads=4), sinks=[FakeSink()]).run()
    assert report.engine.in_flight == len(made) == 1


@pytest.mark.parametrize("live", [False, True])
def test_a_policy_decides_not_the_source(live):
    """Every frame of a live source if requested, and only the newest of a file."""
    made, every = [], FakeSink()
    report = Loop(FakeSource(20, live=live), fake_segmenter(made, threads=3), sinks=[every], policy=Every()).run()
    assert every.indices == list(range(20))
    assert (report.drops, report.engine.in_flight) == (0, 3)

    class FourFramesLate(FakeEngine):
        def _infer(self, image):
            logits = super()._infer(image)
            wait_until(lambda: source.index >= min(4 * self.calls, 20))
            return logits

    source, newest = FakeSource(20, live=live), FakeSink()
    report = Loop(source, Segmenter(FourFramesLate()), sinks=[newest], policy=Newest()).run()
    assert newest.indices == sorted(set(newest.indices))
    assert report.drops == 20 - len(newest.indices) > 5


def test_what_wraps_a_labeller_changes_its_labels_and_nothing_else():
    class Inverted(Wrapper):
        def collect(self):
            made = super().collect()
            return replace(made, labels=10 - made.labels)

    made, sink = [], FakeSink()
    report = Loop(FakeSource(20), Inverted(fake_segmenter(made, threads=3)), sinks=[sink]).run()
    assert sink.labels == [10 - index % 11 for index in range(20)]
    assert report.engine.in_flight == len(made) == 3


@pytest.mark.parametrize("live", [False, True])
def test_a_network_is_changed_between_two_frames_and_none_is_lost(live):
    old, new, sink, changed = [], [], FakeSink(), threading.Event()

    def change(loop):
        loop.change_labeller(lambda: fake_segmenter(new, threads=3))
        changed.set()

    source = FakeSource(60, live=live, delay_s=0.002, gates={30: changed})
    view = FakeView(after={1: change})
    report = Loop(source, fake_segmenter(old, threads=3), sinks=[sink], view=view).run()
    assert sink.indices == sorted(set(sink.indices))
    assert sink.labels == [index % 11 for index in sink.indices]
    assert len(sink.indices) + report.drops == 60
    assert all(engine.released for engine in old)
    assert sum(engine.calls for engine in new) > (0 if live else 20)  # live: it may keep up with only the last frame


def test_a_slow_sink_loses_no_frame_of_a_file():
    sink = FakeSink(delay_s=0.01)
    assert Loop(FakeSource(20), segmenter(), sinks=[sink]).run().drops == 0
    assert sink.indices == list(range(20))


def test_a_live_source_keeps_the_newest_frame_and_counts_drops():
    class FourFramesLate(FakeEngine):
        def _infer(self, image):
            labels = super()._infer(image)
            wait_until(lambda: source.index >= min(4 * self.calls, 40))
            return labels

    source, sink = FakeSource(40, live=True, delay_s=0.001), FakeSink()
    report = Loop(source, Segmenter(FourFramesLate()), sinks=[sink]).run()
    # once read() is asked for frame n, frame n - 2 has been handed over
    assert all(index >= min(4 * labelled, 40) - 2 for labelled, index in enumerate(sink.indices))
    assert sink.indices == sorted(set(sink.indices))
    assert report.drops > 20
    assert report.frames + report.drops == 40


FAILURES = {
    "source at once": ({"fail_at": 0}, {}, {}, InputError("camera gone")),
    "source later": ({"fail_at": 7}, {}, {}, InputError("camera gone")),
    "engine": ({}, {"fail_at": 5}, {}, EngineError("engine failed")),
    "engine, working ahead": ({}, {"fail_at": 2, "threads": 3}, {}, EngineError("engine failed")),
    "engine, with a defect": ({}, {"fail_at": 5}, {}, ZeroDivisionError("defect")),
    "sink": ({}, {}, {"fail_at": 5}, OutputError("disk full")),
    "sink at once": ({}, {}, {"fail_at": 0}, OutputError("disk full")),
}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_ends_the_loop_with_the_original_error(case, live):
    of_source, of_engine, of_sink, error = FAILURES[case]
    given = {key: {"error": error, **kw} for key, kw in zip("sek", (of_source, of_engine, of_sink), strict=True)}
    source = FakeSource(None, live=live, delay_s=0.001, **given["s"])
    sink = FakeSink(**given["k"])
    with pytest.raises(type(error)) as caught:
        Loop(source, segmenter(**given["e"]), sinks=[sink]).run()
    assert caught.value is error
    assert source.closed == 1
    assert sink.closed_as is False
    assert sink.indices == sorted(sink.indices)


def test_a_failure_while_drawing_ends_the_loop():
    def draw(result, hud):
        if result.frame.index == 4:
            raise ValueError("cannot draw")
        return result.frame.image

    source, sink = FakeSource(None), FakeSink()
    with pytest.raises(ValueError, match="cannot draw"):
        Loop(source, segmenter(), draw=draw, sinks=[sink]).run()
    assert sink.indices == [0, 1, 2, 3]
    assert (source.closed, sink.closed_as) == (1, False)


def test_every_picture_has_the_newest_figures():
    seen = []
    Loop(FakeSource(3), segmenter(), draw=lambda result, hud: seen.append(hud) or result.frame.image).run()
    assert len(seen) == 3
    assert all("fake" in " ".join(hud) for hud in seen)  # the first too


def test_a_sink_that_fails_at_close_is_reported():
    class Failing(NullSink):
        def close(self, complete=True):
            raise OutputError("disk full")

    other = FakeSink()
    with pytest.raises(OutputError, match="disk full"):
        Loop(FakeSource(3), segmenter(), sinks=[Failing(), other]).run()
    assert other.closed_as is False


def test_ctrl_c_finishes_the_recording_and_keeps_the_report():
    class Interrupts(FakeSink):
        def write(self, frame, labels, picture):
            super().write(frame, labels, picture)
            if len(self.indices) == 3:  # the run is in flight, so no other code is interrupted
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    source, sink = FakeSource(None, delay_s=0.005), Interrupts()
    loop = Loop(source, segmenter(), sinks=[sink])
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert (source.closed, sink.closed_as) == (1, True)
    assert loop.report().frames == len(sink.indices) > 0


@pytest.mark.parametrize("where", ["source", "sink"])
def test_a_failure_during_a_pause_ends_it(where):
    class Pausing(FakeView):
        def show(self, loop, result, picture):
            loop.pause(True)

    error = OutputError("gone")
    source = FakeSource(None, delay_s=0.05, fail_at=3 if where == "source" else None, error=error)
    sink = FakeSink(delay_s=0.2, fail_at=0 if where == "sink" else None, error=error)
    with pytest.raises(OutputError, match="gone"):
        Loop(source, segmenter(), sinks=[sink], view=Pausing()).run()


@pytest.mark.parametrize(
    ("frames", "fps"), [(1, 50), (2, 100), (4, 200), (29, 29 / 0.16), (30, 29 / 0.14), (60, 59 / 0.28)]
)
def test_fps_of_few_frames_are_those_of_the_whole_run(frames, fps, monkeypatch):
    """Four engines take 0.02 s each and finish together, so the time between a few frames tells nothing."""
    now = 0.0
    monkeypatch.setattr("rtseg.live.report.perf_counter", lambda: now)
    stats = LoopStats()
    for index in range(frames):
        now = 0.02 * (index // 4 + 1)
        stats.finish(captured_at=now - 0.02)
    assert stats.fps == pytest.approx(fps)


def test_no_frame_at_all():
    report = Loop(FakeSource(0), segmenter(), sinks=[FakeSink()]).run()
    assert (report.frames, report.fps, report.latency_ms) == (0, 0.0, {"n": 0})
    assert report.to_json()["engine"] is None


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (5, 5), (50, 8)])
def test_max_frames(limit, expected):
    sink = FakeSink()
    assert Loop(FakeSource(8), segmenter(), sinks=[sink], max_frames=limit).run().frames == expected
    assert sink.indices == list(range(expected))
    assert sink.closed_as is True


@pytest.mark.parametrize("block_at", [None, 3])
def test_duration_ends_a_source_that_is_endless_or_blocks(clock, block_at):
    source = FakeSource(None, delay_s=0.002, block_at=block_at)
    view = FakeView(after={3: lambda loop: clock.jump(1000)})
    report = Loop(source, segmenter(), view=view, duration_s=1000).run()
    assert 3 <= report.frames <= (block_at or 4)  # the jump is noticed before the next frame or right after it
    assert 1000 <= report.seconds < 2000


def test_pace_follows_the_fps_of_the_source():
    report = Loop(FakeSource(11, fps=50.0), segmenter(), pace=True).run()
    assert report.seconds >= 0.19


def test_report_keeps_stages_latency_and_throughput_apart():
    report = Loop(FakeSource(20, truth=True), segmenter(delay_s=0.005), draw=lambda r, hud: r.frame.image,
                  sinks=[NullSink()]).run()  # fmt: skip
    data = report.to_json()
    assert set(data["stages_ms"]) == {"capture", "resize", "engine", "upsample", "draw", "write"}
    assert all(stage["n"] == 20 for stage in data["stages_ms"].values())
    assert data["stages_ms"]["engine"]["p50"] >= 5
    assert data["latency_ms"]["p50"] > data["stages_ms"]["engine"]["p50"]
    assert data["fps"] < 200
    assert data["accuracy"]["miou"] == 1.0
    assert data["accuracy"]["frames"] == 2


class PausingView(FakeView):
    """Pauses after two frames; `meanwhile` happens, and 1000 s pass, before it resumes."""

    def __init__(self, clock, meanwhile=lambda: None):
        super().__init__(after={2: lambda loop: loop.pause(True)})
        self.clock, self.meanwhile = clock, meanwhile

    def poll(self, loop):
        super().poll(loop)
        if loop.paused:
            self.meanwhile()
            self.clock.jump(1000)
            loop.pause(False)


def test_pause_and_resume_do_not_count_as_latency(clock):
    source = FakeSource(20)
    view = PausingView(clock, lambda: wait_until(lambda: source.index >= 4))  # frame 2 waits from before the pause
    report = Loop(source, segmenter(), view=view).run()
    assert view.shown == list(range(20))
    assert 0 < report.latency_ms["n"] < 20
    assert report.latency_ms["p99"] < 1_000_000


def test_a_live_source_resumes_with_its_newest_frame(clock):
    source = FakeSource(200, live=True, delay_s=0.001)
    view = PausingView(clock, lambda: wait_until(lambda: source.index >= 150))
    report = Loop(source, segmenter(), view=view).run()
    assert view.shown == sorted(view.shown)
    assert view.shown[2] >= 148
    assert report.drops > 20
    assert report.frames + report.drops == 200
    assert report.latency_ms["p99"] < 1_000_000


@pytest.mark.parametrize("live", [True, False])
def test_a_picture_that_nothing_follows_is_marked_as_stale(clock, live):
    """Only a live source's frame: a file that is slow to read is not out of date."""
    hints = []

    def draw(result, hud):
        hints.append([line for line in hud if line.startswith("STALE")])
        return result.frame.image

    def wait(loop):
        clock.jump(2)
        view.script[view.polls + 3] = lambda loop: clock.jump(2)
        view.script[view.polls + 6] = Loop.stop

    view = FakeView(after={1: wait})
    report = Loop(FakeSource(None, live=live, block_at=1), segmenter(), draw=draw, view=view).run()
    assert view.shown == [0] * (3 if live else 1)
    assert [len(lines) for lines in hints] == ([0, 1, 1] if live else [0])
    assert report.frames == 1


def test_a_view_may_stop_the_loop():
    view = FakeView({6: lambda loop: loop.stop()})
    assert Loop(FakeSource(None), segmenter(), view=view).run().frames <= 6


def test_sinks_come_and_go():
    sink = FakeSink()
    view = FakeView(after={4: lambda loop: loop.add_sink(sink), 30: lambda loop: loop.remove_sink(sink),
                           40: lambda loop: loop.stop()})  # fmt: skip
    Loop(FakeSource(None, delay_s=0.001), segmenter(), view=view).run()
    assert sink.indices == list(range(4, 30))
    assert sink.closed_as is True


def test_no_frame_waits_for_the_old_network_to_close():
    old, view = FakeEngine(), FakeView()
    closing, shown = threading.Event(), threading.Event()
    plain = old._release

    def release():
        closing.set()
        assert shown.wait(HANGS_S)
        plain()

    def change(loop):
        loop.change_labeller(lambda: Segmenter(FakeEngine()))

    def end(loop):
        assert closing.wait(HANGS_S)  # meanwhile the new one labelled 20 frames
        shown.set()
        loop.stop()

    old._release = release
    view.after = {10: change, 30: end}
    Loop(FakeSource(None, delay_s=0.001), Segmenter(old), view=view).run()
    assert old.released
    assert view.shown == list(range(30))


def test_the_network_can_be_changed_while_the_loop_runs():
    first, second = FakeEngine(), FakeEngine()
    view = FakeView(after={10: lambda loop: loop.change_labeller(lambda: Segmenter(second))})
    report = Loop(FakeSource(60, delay_s=0.001), Segmenter(first), view=view).run()
    assert view.shown == list(range(60))
    assert (first.released, second.released) == (True, False)
    assert first.calls + second.calls == 60
    assert report.stages_ms["engine"]["n"] == second.calls > 0


def test_two_loops_at_once_do_not_disturb_each_other():
    sinks = [FakeSink(), FakeSink()]
    loops = [Loop(FakeSource(40, size_hw=(200, 300)), segmenter(), sinks=[sink]) for sink in sinks]
    threads = [threading.Thread(target=loop.run) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sink.indices for sink in sinks] == [list(range(40))] * 2


def test_pipeline_gives_frames_in_order_and_may_be_left_early():
    source = FakeSource(None)
    with Pipeline(source, segmenter()) as pipeline:
        for expected, result in zip(range(10), pipeline, strict=False):
            assert result.frame.index == expected
    assert source.closed == 1


@pytest.mark.parametrize("busy", [True, False])
def test_a_huge_picture_is_no_stalled_disk(monkeypatch: pytest.MonkeyPatch, busy: bool) -> None:
    """What counts is that the processor works, however long a picture takes."""
    monkeypatch.setattr("rtseg.live.writer._WRITE_S", 0.05)
    monkeypatch.setattr("rtseg.live.writer._LOOK_S", 0.005)
    seconds = count()
    monkeypatch.setattr("rtseg.live.writer.process_time", lambda: next(seconds) if busy else 0)
    written = threading.Event()

    class Slow(FakeSink):
        def write(self, frame, labels, picture):
            written.wait(0.2 if busy else None)
            super().write(frame, labels, picture)

    sink = Slow()
    loop = Loop(FakeSource(1), segmenter(), sinks=[sink])
    if busy:
        assert loop.run().frames == 1
        assert sink.closed_as is True
        return
    with pytest.raises(OutputError, match="writing did not end"):
        loop.run()
    written.set()
    assert loop._writer._threads.join(HANGS_S)
