"""Labels averaged over time: the arithmetic, what moves, what flickers, and where an average begins."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, FakeSource, FlyingEngine, fake_artifact, fake_segmenter, make_network

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Frame
from rtseg.core.runspec import RunSpec
from rtseg.live.labellers.scoring import Scoring
from rtseg.live.labellers.steady import CHANGED, LEAST, NOISE, WINDOW, Steady, first_seen
from rtseg.live.pipeline import Pipeline
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.stability import Stability
from rtseg.pictures.changes import block_changes, block_means

STRIDE = 4


def row(seed: int, frames: int = 30) -> list[tuple[np.ndarray, np.ndarray]]:
    """(picture of 3 x 4 blocks of one colour, logits (3, 6, 8)) of every frame; some blocks change and some do not."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 200, (3, 4, 3)).astype(np.int64)
    made = []
    for _ in range(frames):
        blocks = blocks + rng.integers(-12, 13, blocks.shape) * (rng.random((3, 4, 1)) < 0.05)
        image = np.kron(np.clip(blocks, 0, 255).astype(np.uint8), np.ones((8, 8, 1), np.uint8))
        made.append((image, rng.normal(0, 2, (3, 6, 8)).astype(np.float32)))
    return made


def gains_by_loops(before: np.ndarray, image: np.ndarray) -> np.ndarray:
    """How much of the new frame each cell takes, (6, 8), cell by cell."""
    blocks = [[np.s_[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] for x in range(8)] for y in range(6)]
    changes = np.array([[np.abs(image[b].mean((0, 1)) - before[b].mean((0, 1))).max() for b in row] for row in blocks])
    gains = np.empty((6, 8))
    for y in range(6):
        for x in range(8):
            change = 0.0
            for by in range(max(0, y - 1), min(6, y + 2)):
                for bx in range(max(0, x - 1), min(8, x + 2)):
                    change = max(change, changes[by, bx] / (1 if (by, bx) == (y, x) else 2))
            gains[y, x] = LEAST + (1 - LEAST) * min(1.0, max(0.0, (change - NOISE) / (CHANGED - NOISE)))
    return gains


@pytest.mark.parametrize("window", [WINDOW, None])
def test_the_average_is_that_of_a_plain_loop(window: int | None) -> None:
    frames, steady = row(0), Steady(STRIDE, window)
    gains = [gains_by_loops(before, image) for (before, _), (image, _) in pairwise(frames)]
    seen = set()
    for index, (image, logits) in enumerate(frames):
        begin = first_seen(index) if window else 0
        expected = frames[begin][1].astype(np.float64)
        for at in range(begin, index):
            expected += gains[at] * (frames[at + 1][1] - expected)
        np.testing.assert_allclose(steady(index, image, logits), expected, atol=1e-5)
        if index:
            seen |= set(block_changes(block_means(image, 4), block_means(frames[index - 1][0], 4)).ravel().tolist())
    assert {0.0, 6.0, 12.0} <= seen  # still cells, cells in between, and cells that changed


def test_labels_depend_on_a_bounded_number_of_frames() -> None:
    frames = row(1)
    whole = Steady(STRIDE)
    expected = [whole(index, *frame).copy() for index, frame in enumerate(frames)]
    for first in (1, 7, 8, 9, 16, 23, 29):
        part = Steady(STRIDE)
        assert first - first_seen(first) < 2 * WINDOW
        got = {index: part(index, *frames[index]).copy() for index in range(first_seen(first), len(frames))}
        for index in range(first, len(frames)):
            np.testing.assert_array_equal(got[index], expected[index])  # bit for bit
    cut = Steady(STRIDE)
    late = [cut(index, *frames[index]).copy() for index in range(first_seen(16) + 1, 17)]  # one frame too few
    assert not np.array_equal(late[-1], expected[16])


def test_frames_that_are_missing_or_come_again() -> None:
    frames = row(2)
    whole = Steady(STRIDE)
    damaged = [index for index in range(30) if index not in (3, 8, 15, 17, 18)]
    expected = {index: whole(index, *frames[index]).copy() for index in damaged}
    again = Steady(STRIDE)
    for index in (8, 9, 10):  # a seek that failed: the same frames come again
        again(index, *frames[index])
    for index in damaged[damaged.index(9) :]:
        averaged = again(index, *frames[index])
        if index >= 16:
            np.testing.assert_array_equal(averaged, expected[index])
    far = Steady(STRIDE)
    far(0, *frames[0])
    np.testing.assert_array_equal(far(3 * WINDOW, *frames[5]), frames[5][1])  # nothing from so long ago


def test_another_size_begins_anew() -> None:
    steady = Steady(STRIDE)
    steady(0, *row(0)[0])
    logits = np.ones((3, 2, 2), np.float32)
    np.testing.assert_array_equal(steady(1, np.zeros((8, 8, 3), np.uint8), logits), logits)


def test_means_and_changes_of_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 35, 3), np.uint8)
    means = block_means(image, 8)
    assert means.shape == (3, 5, 3)
    np.testing.assert_allclose(means[1, 2], image[8:16, 16:24].mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(means[2, 4], image[16:, 32:].mean((0, 1)), rtol=1e-6)
    other = means.copy()
    other[0, 0, 2] -= 7
    changes = block_changes(means, other)
    np.testing.assert_allclose(changes[:2, :2], [[7, 3.5], [3.5, 3.5]], rtol=1e-5)
    assert not changes[2].any()
    assert not changes[:, 2:].any()


def squares(count: int = 20) -> Iterator[Frame]:
    """A square of class 9 that moves by 3 pixels a frame over a still ground of class 2."""
    for index in range(count):
        image = np.full((64, 96, 3), 2, np.uint8)
        image[20:40, 3 * index : 3 * index + 20] = 207  # 207 % 11 = 9
        yield Frame(image, index, index / 30, 0.0)


def test_what_moves_does_not_smear() -> None:
    plain = fake_segmenter([])
    with Scoring(fake_segmenter([]), steady=Steady(STRIDE)) as steadied:
        for frame in squares():
            np.testing.assert_array_equal(steadied(frame), plain(frame))


def noisy(count: int = 24) -> Iterator[Frame]:
    """A still scene with a border between any two classes, and the noise of a camera."""
    rng = np.random.default_rng(0)
    scene = np.linspace(60, 200, 96 * 3).reshape(96, 3)[None] * np.linspace(0.4, 1.2, 64)[:, None, None]
    for index in range(count):
        yield Frame(np.clip(scene + rng.normal(0, 1, scene.shape), 0, 255).astype(np.uint8), index, index / 30, 0.0)


def test_a_still_scene_flips_at_most_half_as_often(tmp_path: Path) -> None:
    network = make_network(tmp_path)
    shares = []
    for steady in (None, Steady(STRIDE)):
        spec = RunSpec(str(network), "onnxruntime", "fp32", (64, 96), 1)
        with Scoring(Segmenter(spec), steady=steady) as labeller:
            stability = Stability(labeller.labels)
            for frame in noisy():
                stability.update(frame, labeller(frame))
            shares.append(stability.flip_share)
    plain, steadied = shares
    assert plain > 0.002
    assert steadied < plain / 2


def test_frames_in_flight_change_nothing_and_every_stage_is_told() -> None:
    labels = {}
    for threads in (1, 3):
        with Scoring(fake_segmenter([], threads=threads), steady=Steady(STRIDE), confident=True) as labeller:
            with Pipeline(FakeSource(25), labeller) as pipeline:
                results = list(pipeline)
            labels[threads] = np.stack([result.labels for result in results])
        assert [result.frame.index for result in results] == list(range(25))
        assert {"resize", "engine", "steady", "upsample", "confidence"} <= set(results[-1].stages_s)
    np.testing.assert_array_equal(labels[1], labels[3])
    # by one grey level a frame: it is no change, so that the average is what the labels are of
    assert not (labels[1][:, 0, 0] == np.arange(25) % 11).all()


class Strict(FlyingEngine):
    """Takes two pictures, but for logits one at a time, like an engine with a single buffer for them."""

    def _infer(self, image: np.ndarray) -> np.ndarray:
        assert not self._pending
        return super()._infer(image)  # type: ignore[no-any-return]


def test_an_engine_that_labels_two_at_a_time_gives_logits_one_by_one() -> None:
    labels = []
    for engine in (FakeEngine(), Strict(in_flight=2)):
        with (
            Scoring(Segmenter(engine), steady=Steady(STRIDE)) as labeller,
            Pipeline(FakeSource(9), labeller) as pipeline,
        ):
            labels.append([result.labels for result in pipeline])
    np.testing.assert_array_equal(*labels)
    with Strict(in_flight=2) as engine:
        picture = np.zeros((64, 96, 3), np.uint8)
        engine.submit_logits(picture)
        engine.submit_logits(picture)
        with pytest.raises(EngineError, match="2 pictures are in flight already"):
            engine.submit_logits(picture)
        first, second = engine.collect_logits()[0], engine.collect_logits()[0]
        assert first is not second
        np.testing.assert_array_equal(first, engine.infer(picture))
        with pytest.raises(EngineError, match="no picture is in flight"):
            engine.collect_logits()


def test_a_network_that_gives_labels_is_refused() -> None:
    artifact = fake_artifact(output="labels")
    with pytest.raises(UsageError, match="gives labels, not scores"):
        Scoring(Segmenter(FakeEngine(artifact)), steady=Steady(STRIDE))


def test_frames_in_flight_of_an_engine_that_fails_are_thrown_away() -> None:
    with Scoring(fake_segmenter([], fail_at=5, error=RuntimeError("gone")), steady=Steady(STRIDE)) as labeller:
        with pytest.raises(RuntimeError, match="gone"), Pipeline(FakeSource(25), labeller) as pipeline:
            list(pipeline)
        with pytest.raises(EngineError, match="no picture is in flight"):
            labeller.collect()


def test_what_follows_another_video_is_averaged_anew() -> None:
    engine = FakeEngine()
    labeller = Scoring(Segmenter(engine), steady=Steady(STRIDE, None))
    first, second = (np.full((64, 96, 3), grey, np.uint8) for grey in (3, 4))  # a difference that counts as noise
    for index, (image, label) in enumerate([(first, 3), (second, 3)]):
        labeller.submit(Frame(image, index, 0.0, 0.0))
        assert (labeller.collect().labels == label).all()
    labeller.discard()
    labeller.submit(Frame(second, 2, 0.0, 0.0))
    assert (labeller.collect().labels == 4).all()
