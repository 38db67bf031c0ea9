"""A deadline in the loop, in a stream and in `rtseg-cam`; nothing here depends on the machine's speed."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from fakes import FakeEngine, FakeSink, FakeSource, FakeView, fake_card, fake_network, loop_threads  # noqa: F401
from test_loop import wait_until

import rtseg
from rtseg.apps._console import run
from rtseg.apps.cam import app
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.threads import ThreadBudget
from rtseg.engines.rate import Fps, Measured
from rtseg.live.labellers.anytime import Anytime
from rtseg.live.labellers.wrapper import Wrapper
from rtseg.live.ladder import Step
from rtseg.live.loop import Loop
from rtseg.live.pipeline import Pipeline, Result
from rtseg.live.policies import Deadline
from rtseg.live.rung import Rung
from rtseg.live.segmenter import Segmenter
from rtseg.live.timeliness import Timeliness
from rtseg.sinks.base import write_picture

LONG_S = 600.0  # a deadline that is always kept


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path / "cache"))
    yield
    assert loop_threads() == []


def cam(*arguments):
    """Runs the command in this process, by default on a small street, and returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        run(app, ["--camera-size", "64x96", "--camera-fps", "50", "--no-window", *arguments])
    return ended.value.code


class OneRung:
    card, budget = fake_card(), ThreadBudget(1, 1, 1, 1)

    def __init__(self, engine, seconds=0.001):
        self.rung = Rung("net", "fake", "fp32", (64, 96), 0.5, seconds)
        self.engine = engine

    def open(self, frame_hw, most_s):
        segmenter = Segmenter(self.engine)
        segmenter.prepare(frame_hw)
        return [Step(self.rung, segmenter)]


def anytime(deadline_s, engine):
    return Anytime(OneRung(engine), Deadline(deadline_s))


def test_the_labellers_policy_is_the_pipelines_also_inside_a_wrapper():
    labeller = anytime(LONG_S, FakeEngine())
    assert Pipeline(FakeSource(1), Wrapper(labeller)).policy is labeller.policy
    labeller.close()


def test_frames_in_time_have_labels_of_their_own():
    sink, seen = FakeSink(), []
    with anytime(LONG_S, FakeEngine()) as labeller:

        def draw(result, hud):
            seen.append(hud)
            return result.frame.image

        report = Loop(FakeSource(12, fps=50.0), labeller, draw=draw, sinks=[sink]).run()
    assert sink.labels == [index % 11 for index in sink.indices]
    told = report.to_json()["deadline"]
    assert (told["ms"], told["held"], told["late"], told["frames"]) == (1e3 * LONG_S, 0, 0, 12)
    assert told["missed"] == told["dropped"] == report.drops
    assert told["rungs"][0]["frames"] == report.frames == 12 - report.drops
    assert told["sequence"] == [[0, report.frames]]
    assert f"missed {report.drops} of 12 frames" in report.summary()
    assert all(lines[-2].startswith("deadline 600000 ms, ") for lines in seen)
    assert all(lines[-1] == "net fp32 64x96 on fake" for lines in seen)


def test_while_a_rung_is_stuck_pictures_are_shown_with_older_labels():
    class Stuck(FakeEngine):
        def _infer(self, image):
            logits = super()._infer(image)
            if self.calls == 4:  # the first is the warm-up
                go_on.wait()
            return logits

    go_on, huds, shown = Event(), [], []

    def draw(result, hud):
        huds.append((result.held, result.rung, hud))
        shown.append(int(result.labels[0, 0]))
        return result.frame.image

    source = FakeSource(None, live=True, delay_s=0.004)
    view = FakeView(after={20: lambda loop: go_on.set(), 40: lambda loop: loop.stop()})
    with anytime(0.05, Stuck()) as labeller:
        report = Loop(source, labeller, draw=draw, view=view).run()
    held = [number for number, (held, _, _) in enumerate(huds) if held]
    assert set(range(12, 20)) <= set(held)  # before it was released
    assert len({shown[number] for number in range(12, 20)}) == 1
    assert all(("HELD: labels of an earlier frame" in hud) == (held and bool(rung)) for held, rung, hud in huds)
    told = report.deadline
    assert told["missed"] >= told["held"] == len(held)
    assert report.reused == 0  # their labels are old for lack of time, not because nothing changed
    assert sum(frames for _, frames in told["sequence"]) == 40 == told["frames"] - told["dropped"]


def test_frames_that_pass_in_a_pause_are_not_missed():
    source, before = FakeSource(60, live=True, delay_s=0.004), []

    def pause(loop):
        before.append(loop.drops)
        loop.pause(True)
        before.append(loop.drops)
        wait_until(lambda: source.index > 60)  # all have passed
        loop.pause(False)

    view = FakeView(after={5: pause})
    with anytime(LONG_S, FakeEngine()) as labeller:
        report = Loop(source, labeller, view=view).run()
    assert report.drops == 55
    told = report.deadline
    assert before[0] <= told["dropped"] <= before[1]
    assert told["frames"] == 5 + told["dropped"]


def test_frames_that_came_before_the_run_are_not_missed():
    """Networks take a while to load, and a camera does not wait."""

    class Waiting(FakeSource):
        def read(self):
            frame = super().read()
            return frame and replace(frame, captured_at=frame.captured_at - (1e3 if frame.index < 3 else 0))

    source, sink = Waiting(30, live=True, delay_s=0.004), FakeSink()
    source.late = 7  # were never read
    with anytime(500.0, FakeEngine()) as labeller:
        report = Loop(source, labeller, sinks=[sink]).run()
    assert sink.indices[0] >= 3
    told = report.deadline
    assert (told["held"], told["late"]) == (0, 0)
    assert told["frames"] == told["dropped"] + report.frames <= 27
    assert report.drops == 37 - report.frames


def test_an_error_of_a_rung_ends_the_loop():
    error = EngineError("engine failed")
    with anytime(LONG_S, FakeEngine(fail_at=3, error=error)) as labeller, pytest.raises(EngineError) as caught:
        Loop(FakeSource(None, fps=100.0), labeller).run()
    assert caught.value is error


@pytest.mark.parametrize("given", ["33", None])
def test_a_deadline_in_python_is_a_number(given):
    with pytest.raises(UsageError, match=r"a deadline is a number of milliseconds, for example 33, not ('33'|None)"):
        rtseg.anytime(given)


def test_a_stream_with_a_deadline():
    with anytime(LONG_S, FakeEngine()) as labeller:
        found = [(frame.index, int(labels[0, 0])) for frame, labels in rtseg.stream(FakeSource(5, fps=50.0), labeller)]
        assert len(labeller.policy._drawing) == len(found)
    assert all(label == index % 11 for index, label in found)


def test_what_was_on_time_is_counted_by_hand(monkeypatch):
    policy = Deadline(0.033)
    policy.start([Rung("net", "fake", "fp32", (64, 96), 0.5, 0.001)])
    timeliness, (name,) = Timeliness(policy), map(str, policy.rungs)
    # (captured, shown, rung, held)
    pictures = [(0.0, 0.020, name, False), (0.033, 0.050, name, True), (0.066, 0.110, name, False),
                (0.099, 0.150, name, True), (0.132, 0.160, name, False)]  # fmt: skip
    for captured_at, now, rung, held in pictures:
        monkeypatch.setattr("rtseg.live.timeliness.perf_counter", lambda now=now: now)
        frame = replace(FakeSource(1).read(), captured_at=captured_at)
        result = Result(frame, None, None, None, {}, None, "", now - 0.005, rung, held)
        timeliness.shown(result)
    told = timeliness.to_json(dropped=2)
    assert timeliness.hud(result, dropped=2) == ["deadline 33 ms, 71.4% missed", name]
    counted = {key: told[key] for key in ("ms", "frames", "missed", "held", "late", "dropped")}
    assert counted == {"ms": 33.0, "frames": 7, "missed": 5, "held": 2, "late": 2, "dropped": 2}
    assert (told["rungs"][0]["frames"], told["rungs"][0]["seconds"]) == (3, pytest.approx(0.14))
    assert told["sequence"] == [[0, 1], [None, 1], [0, 1], [None, 1], [0, 1]]
    assert policy.drawing_s == pytest.approx(0.005)


@pytest.fixture
def rates(fake_network, monkeypatch):  # noqa: F811
    """Only this process knows the engine of `fake_network`; and sizes need no comparison."""
    metrics = {"fp32": {"camvid/val": {"miou": 0.5, "sizes": {"192x256": 0.4}}}}
    for name in ("fake", "other"):
        fake_card(name=name, engine_order=("fake",), metrics=metrics).save(fake_network / f"{name}.json")
    asked = []

    def measure(artifact, engine, precisions, options):
        asked.append(artifact.card.name)
        return Measured(dict.fromkeys(precisions, Fps(1000.0, 1000.0)))

    monkeypatch.setattr("rtseg.live.ladder.measure_rates", measure)
    monkeypatch.setattr("rtseg.core.runspec.RunSpec.model", "fake")
    return asked


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize(("named", "networks"), [((), ["fake", "other"]), (("--model", "other"), ["other"])])
def test_the_command_reports_the_deadline(rates, capsys, named, networks):
    assert cam("--source", "synthetic", "--deadline", "60000", "--frames", "6", "--json", "run.json", *named) == 0
    told = json.loads(Path("run.json").read_text())["deadline"]
    assert sorted(set(rates)) == networks
    assert {rung["model"] for rung in told["rungs"]} <= set(networks)
    assert (told["ms"], told["held"]) == (60000.0, 0)
    assert sum(rung["frames"] for rung in told["rungs"]) == 6 == told["frames"] - told["dropped"]
    printed = capsys.readouterr().out
    assert "deadline 60000 ms from capture to display; rungs, best first" in printed
    assert "missed" in printed


@pytest.mark.usefixtures("rates")
def test_a_size_that_only_another_network_takes_narrows_the_choice(fake_network, capsys):  # noqa: F811
    fake_card(name="other", engine_order=("fake",), size_multiple=8).save(fake_network / "other.json")
    arguments = ("--source", "synthetic", "--deadline", "60000", "--frames", "2")
    assert cam(*arguments, "--size", "72x96") == 0
    assert "rung    other fp32 72x96 on fake" in capsys.readouterr().out
    assert cam(*arguments, "--size", "71x96") == 2
    assert "size 71x96 does not fit fake" in capsys.readouterr().err


@pytest.mark.usefixtures("rates")
def test_a_report_replaces_no_network_that_a_deadline_may_choose(fake_network, capsys):  # noqa: F811
    card = fake_network / "other.json"
    before = card.read_bytes()
    assert cam("--source", "synthetic", "--deadline", "60000", "--frames", "2", "--json", str(card)) == 2
    assert "would overwrite the network" in capsys.readouterr().err
    assert card.read_bytes() == before


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf"])
def test_a_deadline_that_is_none_is_refused(value, capsys):
    assert cam("--model", "fake", f"--deadline={value}") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"a deadline of {value} ms is not allowed: give more than 0, for example 33" in line


@pytest.mark.usefixtures("fake_network")
def test_a_picture_has_no_deadline(rates, capsys):
    write_picture(Path("a.png"), np.zeros((64, 96, 3), np.uint8))
    assert cam("--deadline", "33", "--source", "a.png") == 2
    assert "--deadline makes no sense for a single picture (a.png): give a camera or a video" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_network")
def test_a_deadline_below_the_fastest_rung_is_said_and_run(rates, capsys):
    assert cam("--source", "synthetic", "--deadline", "0.001", "--frames", "2") == 0
    printed = capsys.readouterr().out
    assert "more than the deadline: frames will have the labels of earlier frames" in printed


def test_the_library_says_what_is_wrong():
    with pytest.raises(UsageError, match="a deadline of 0 ms is not allowed"):
        rtseg.anytime(0)
    with pytest.raises(UsageError, match="unknown model"):
        rtseg.anytime(33, "no-such-network")
