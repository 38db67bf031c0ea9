"""A deadline's options: scores, times, and which rungs are worth keeping warm."""

import json
from itertools import pairwise

import numpy as np
import pytest
from fakes import FakeEngine, fake_artifact

from rtseg.core.card import CardFile
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.labels import LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.engines.auto import Form
from rtseg.engines.rate import Fps, Measured
from rtseg.live import agreement as agreement_module
from rtseg.live import ladder as ladders
from rtseg.live.agreement import agreement, at_size
from rtseg.live.ladder import Ladder, best_forms, choose, other_sizes, scores_by_size, time_in_turn, wishes
from rtseg.live.rung import Rung, pareto, spread

FILES = {"fp32": CardFile("fake.onnx", "0" * 64, 1), "int8": CardFile("fake.int8.onnx", "1" * 64, 1)}
METRICS = {
    "fp32": {"camvid/val": {"miou": 0.8, "sizes": {"192x256": 0.6, "384x512": 0.76}}},
    "int8": {"camvid/val": {"miou": 0.78, "lost": 0.004}},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path))


def network(name="fake", metrics=METRICS, **changes):
    return fake_artifact(name=name, metrics=metrics, files=FILES, train_size=(384, 512), **changes)


def rung(seconds, score):
    return Rung("net", "fake", "fp32", (64, 96), score, seconds)


def measure(artifact, engine, precisions, options):
    """10 pictures per second in fp32 and 40 in int8 at any size; `slow` half as many, and `broken` none.

    Beside the loop's other work each is a little slower, which does not count for a rung.
    """
    if artifact.card.name == "broken":
        return Measured(dict.fromkeys(precisions, "no"))
    share = 0.5 if artifact.card.name == "slow" else 1.0
    alone = {precision: share * {"fp32": 10.0, "int8": 40.0}[precision] for precision in precisions}
    return Measured({precision: Fps(fps, 0.8 * fps) for precision, fps in alone.items()})


def ladder(*artifacts, **wish):
    def load(name, artifact, options):
        return FakeEngine(artifact, options)

    specs = [RunSpec(artifact, engine="onnxruntime", threads=1, **wish) for artifact in artifacts]
    return Ladder(specs, loader=load, measure=measure)


def test_only_what_no_other_beats_stays():
    front = [rung(1, 0.2), rung(2, 0.5), rung(4, 0.6)]
    assert pareto([rung(3, 0.5), front[2], rung(2, 0.4), front[1], rung(5, 0.6), front[0]]) == front


def test_a_long_front_is_thinned_evenly_and_keeps_both_ends():
    front = [rung(1.1**n, n / 100) for n in range(30)]
    kept = spread(front, 6)
    assert (kept[0], kept[-1]) == (front[0], front[-1])
    assert len(kept) == 6
    steps = [slow.seconds / fast.seconds for fast, slow in pairwise(kept[1:])]
    assert min(steps) == pytest.approx(max(steps))
    assert spread(front[:1], 6) == front[:1]
    assert spread(front[:2], 6) == front[:2]


def test_what_takes_longer_than_there_is_time_is_left_but_the_fastest():
    found = [rung(0.010, 0.2), rung(0.030, 0.5), rung(0.050, 0.6)]
    assert choose(found, 0.033) == found[:2]
    assert choose(found, 0.005) == found[:1]


def test_of_each_precision_the_fastest_engine():
    rates = {Form("a", "fp32"): Fps(14.0, 10.0), Form("b", "fp32"): Fps(12.0, 11.0), Form("a", "int8"): Fps(20.0, 20.0),
             Form("b", "int8"): "no"}  # fmt: skip
    assert best_forms(rates) == {Form("b", "fp32"): 12.0, Form("a", "int8"): 20.0}


def test_scores_are_those_of_the_card_between_its_sizes():
    """0.6 of 0.8 at half the height and width, all of its own at its own."""
    card = network().card
    assert scores_by_size(card) == [(0.5, pytest.approx(0.75)), (1.0, 1.0)]
    found = {(r.precision, r.size_hw): r for r in ladder(network())._candidates(RunSpec(network(), "onnxruntime"),
                                                                                 (384, 512))}  # fmt: skip
    assert found["fp32", (384, 512)].score == pytest.approx(0.8)
    assert found["int8", (384, 512)].score == pytest.approx(0.78)
    assert found["int8", (192, 256)].score == pytest.approx(0.75 * 0.78)
    assert found["fp32", (288, 384)].score == pytest.approx(0.875 * 0.8)
    assert found["int8", (192, 256)].seconds == pytest.approx(0.25 / 40)
    assert (480, 640) not in {size for _, size in found}  # the card has no score for a larger one


@pytest.mark.parametrize(
    ("changes", "wish", "sizes"),
    [
        ({}, {"size_hw": (128, 128)}, {(128, 128)}),
        ({"fixed_size": (64, 96)}, {}, {(64, 96)}),
    ],
)
def test_a_size_that_is_named_or_fixed_is_the_only_one(changes, wish, sizes):
    plan = ladder(network(**changes), **wish).plan((384, 512), 1.0)
    assert {rung.size_hw for rung in plan} == sizes
    assert {rung.precision for rung in plan} == {"fp32", "int8"}


def test_a_precision_that_is_named_is_the_only_one():
    assert {rung.precision for rung in ladder(network(), precision="fp32").plan((384, 512), 1.0)} == {"fp32"}


def test_a_network_that_does_not_run_here_is_left_unless_it_is_the_only_one():
    plan = ladder(network("broken"), network("slow")).plan((384, 512), 1.0)
    assert {rung.model for rung in plan} == {"slow"}
    with pytest.raises(EngineError, match="none of the networks runs here"):
        ladder(network("broken")).plan((384, 512), 1.0)


def test_networks_of_other_classes_are_no_rungs_of_one_ladder():
    other = LabelSet("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)), 255)
    with pytest.raises(UsageError, match="other knows other classes than fake"):
        ladder(network(), network("other", labels=other))
    with pytest.raises(UsageError, match="needs a network"):
        Ladder([])


def test_all_that_ship_unless_one_is_named():
    wish = RunSpec("icnet", "openvino", "int8", None, 2)
    named = wishes(wish, "enet")
    assert named == [RunSpec("enet", "openvino", "int8", None, 2)]
    assert {spec.model for spec in wishes(wish)} >= {"icnet", "enet", "swiftnet"}
    assert {spec.engine for spec in wishes(wish)} == {"openvino"}


def test_networks_that_do_not_take_a_size_are_left_unless_none_does():
    """Multiples of 8 for enet, of 32 for icnet."""
    assert [spec.model for spec in wishes(RunSpec(size_hw=(200, 264)))] == ["enet"]
    assert "icnet" in {spec.model for spec in wishes(RunSpec(size_hw=(256, 512)))}
    assert [spec.model for spec in wishes(RunSpec(size_hw=(101, 100)))] == ["icnet"]  # whose error says what fits


def test_rungs_are_opened_timed_and_those_not_worth_it_closed():
    steps = ladder(network()).open((384, 512), 1.0)
    try:
        assert len(steps) <= 8
        assert [step.rung.seconds for step in steps] == sorted(step.rung.seconds for step in steps)
        assert [step.rung.score for step in steps] == sorted(step.rung.score for step in steps)
        assert all(step.segmenter.info.size_hw == step.rung.size_hw for step in steps)
    finally:
        for step in steps:
            step.segmenter.close()


def test_rungs_are_timed_in_turn_with_a_pause_before_each_run(monkeypatch):
    """The median of nine runs, after two for warm-up; each run and each pause advances the clock."""
    now, pauses = [0.0], []
    monkeypatch.setattr(ladders, "perf_counter", lambda: now[0])
    monkeypatch.setattr(ladders, "sleep", lambda seconds: pauses.append(seconds))

    class Timed:
        def __init__(self, seconds):
            self.seconds = iter(seconds)

        def submit(self, frame):
            now[0] += next(self.seconds)

        def collect(self):
            pass

    runs = [9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 50.0]
    timed = time_in_turn([Timed(runs), Timed(2 * seconds for seconds in runs)], [None])
    assert timed == pytest.approx([5.0, 10.0])
    assert len(pauses) == 22
    assert min(pauses) > 0


class Halves:
    """A segmenter that labels a share of the picture differently at a smaller size."""

    def __init__(self, share):
        self.share = share

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __call__(self, picture):
        labels = np.zeros(picture.shape[:2], np.uint8)
        labels[: round(self.share * len(labels))] = 1
        return labels


def test_agreement_is_the_share_of_pixels_and_is_measured_once(monkeypatch):
    pictures = [np.zeros((64, 96, 3), np.uint8)] * 2
    monkeypatch.setattr(agreement_module, "_streets", lambda size_hw: pictures)
    asked = []

    def open_at(size_hw):
        asked.append(size_hw)
        return Halves({64: 0.0, 32: 0.25, 48: 0.125}[size_hw[0]])

    artifact = fake_artifact(size_multiple=16)
    curve = agreement(artifact, (64, 96), "fp32", open_at)
    assert curve == [(0.5, 0.75), (0.75, 0.875), (1.0, 1.0)]
    assert at_size(curve, 0.625) == pytest.approx(0.8125)
    assert agreement(artifact, (64, 96), "fp32", open_at) == curve
    assert len(asked) == 3
    (kept,) = (agreement_module.cache_folder() / "agreement").iterdir()
    kept.write_text(json.dumps({"key": {}, "curve": []}))
    agreement(artifact, (64, 96), "fp32", open_at)
    assert len(asked) == 6


def test_without_figures_by_size_the_sizes_are_those_that_were_compared():
    sizes = other_sizes(network().card, (384, 512), [(0.5, 0.8), (0.75, 0.9), (1.0, 1.0)])
    assert set(sizes) == {(384, 512), (192, 256), (256, 320), (288, 384), (352, 448)}
    assert sizes[288, 384] == 0.75
