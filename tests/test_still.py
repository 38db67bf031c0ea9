"""A still camera: the network is skipped where nothing has changed, and runs where anything has."""

import numpy as np
import pytest
from fakes import FakeEngine, FakeSink, FakeSource, fake_segmenter

from rtseg.core.frame import Frame, Labelled
from rtseg.live.labellers.scoring import Scoring
from rtseg.live.labellers.still import MOST, Still
from rtseg.live.loop import Loop
from rtseg.live.segmenter import Segmenter
from rtseg.sources.base import Source


def frame(index: int, image: np.ndarray) -> Frame:
    return Frame(image, index, index / 30, 0.0)


def label(labeller: Still, index: int, image: np.ndarray) -> Labelled:
    labeller.submit(frame(index, image))
    return labeller.collect()


def noise(grey: float, seed: int, size_hw: tuple[int, int] = (64, 96)) -> np.ndarray:
    values: np.ndarray = np.random.default_rng(seed).normal(grey, 3, (*size_hw, 3)).astype(np.uint8)
    return values


def test_noise_is_no_change_and_a_small_object_is() -> None:
    engine = FakeEngine()
    still = Still(Segmenter(engine))
    first = label(still, 0, noise(100, 0))
    for index in range(1, 10):
        again = label(still, index, noise(100, index))
        np.testing.assert_array_equal(again.labels, first.labels)
        assert again.labels is not first.labels
        assert set(again.stages_s) == {"resize", "compare"}
    assert engine.calls == 1
    image = noise(100, 10)
    image[30:36, 40:46] = 220
    seen = label(still, 10, image)
    assert engine.calls == 2
    assert (seen.labels[32:34, 42:44] == 220 % 11).all()
    assert {"resize", "compare", "engine", "upsample"} <= set(seen.stages_s)


def test_labels_that_were_given_away_may_be_changed() -> None:
    still = Still(Segmenter(FakeEngine()))
    image = np.full((64, 96, 3), 4, np.uint8)
    for index in range(3):
        made = label(still, index, image)
        assert (made.labels == 4).all()
        made.labels[:] = 9


def test_slow_changes_add_up() -> None:
    engine = FakeEngine()
    still = Still(Segmenter(engine))
    for index in range(9):  # by one grey level a frame: 4 are a change
        label(still, index, np.full((64, 96, 3), 100 + index, np.uint8))
    assert engine.calls == 3


def test_the_network_runs_now_and_then_whatever_happens() -> None:
    engine = FakeEngine()
    still = Still(Segmenter(engine))
    image = np.full((64, 96, 3), 4, np.uint8)
    for index in range(2 * (MOST + 1)):
        label(still, index, image)
    assert engine.calls == 2


def test_frames_of_another_size_have_labels_of_theirs() -> None:
    engine = FakeEngine()
    still = Still(Segmenter(engine))
    for index, size_hw in enumerate([(64, 96), (128, 192), (128, 192)]):
        assert label(still, index, np.full((*size_hw, 3), 4, np.uint8)).labels.shape == size_hw
    assert engine.calls == 2


class Stepping(FakeSource):
    """Six frames of each grey value, ten apart."""

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        image = np.full_like(frame.image, 10 * (frame.index // 6))
        return Frame(image, frame.index, frame.timestamp_s, frame.captured_at)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("confident", [False, True])
def test_a_loop_has_the_right_labels_in_order_and_counts_what_it_saved(threads: int, confident: bool) -> None:
    made: list[FakeEngine] = []
    inner = fake_segmenter(made, threads=threads)
    source: Source = Stepping(24)
    sink = FakeSink()
    with Still(Scoring(inner, confident=True) if confident else inner) as still:
        still.prepare((64, 96), 4)
        before = sum(engine.calls for engine in made)
        report = Loop(source, still, sinks=[sink]).run()
    assert sink.labels == [10 * (index // 6) % 11 for index in range(24)]
    assert sum(engine.calls for engine in made) - before == 4
    assert report.reused == report.to_json()["reused"] == 20
    assert "20 frames had the labels of an earlier one" in report.summary()
    assert report.stages_ms["compare"]["n"] == 24
    assert report.stages_ms["engine"]["n"] == 4


def test_confidence_is_used_again_with_the_labels() -> None:
    image = np.full((64, 96, 3), 4, np.uint8)
    with Still(Scoring(fake_segmenter([]), confident=True)) as still:
        first, second = label(still, 0, image), label(still, 1, image)
    assert first.confidence is not None
    assert second.confidence is not None
    assert first.confidence is not second.confidence
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_after_frames_were_thrown_away_the_network_runs_again() -> None:
    engine = FakeEngine()
    still = Still(Segmenter(engine))
    image = np.full((64, 96, 3), 4, np.uint8)
    still.submit(frame(0, image))
    still.discard()
    assert (label(still, 1, image).labels == 4).all()
    assert engine.calls == 2
