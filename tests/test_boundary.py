"""Boundary F1 against a slow computation from its definition."""

import cv2
import numpy as np
import pytest

from rtseg.core.errors import UsageError
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.metrics.boundary import BoundaryF1

TWO = LabelSet("two", ("left", "right"), ((0, 0, 0), (1, 1, 1)))


def outline(labels: np.ndarray, index: int) -> np.ndarray:
    """Pixels of a class with a neighbour of another class, by shifted copies."""
    mine = labels == index
    padded = np.pad(mine, 1, mode="edge")
    whole = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mine & ~whole


def slow_f1(predicted: np.ndarray, truth: np.ndarray, labels: LabelSet, tolerance: float) -> list[float]:
    radius = tolerance * np.hypot(*truth.shape)
    predicted = np.where(truth == labels.ignore_index, truth, predicted)
    scores = []
    for index in range(len(labels)):
        edges = [outline(each, index) for each in (predicted, truth)]
        if not (edges[0].any() or edges[1].any()):
            scores.append(np.nan)
            continue
        near = []
        for own, other in (edges, edges[::-1]):
            distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            near.append((distance[own] <= radius).mean() if own.any() and other.any() else 0.0)
        scores.append(2 * near[0] * near[1] / sum(near) if sum(near) else 0.0)
    return scores


def blobs(seed: int, size_hw: tuple[int, int] = (90, 120)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(9, 12, 12)).astype(np.float32)
    full = np.stack([cv2.resize(coarse[..., k], size_hw[::-1]) for k in range(12)])
    return full.argmax(0).astype(np.uint8)


@pytest.mark.parametrize("tolerance", [0.0, 0.0075, 0.02])
def test_it_agrees_with_the_definition(tolerance: float) -> None:
    score = BoundaryF1(CAMVID11, tolerance)
    expected = []
    for seed in range(4):
        truth = blobs(seed)
        predicted = np.where(np.roll(truth, seed, 1) == 11, 3, np.roll(truth, seed, 1)).astype(np.uint8)
        predicted[:20] = 5
        score.update(predicted, truth)
        expected.append(slow_f1(predicted, truth, CAMVID11, tolerance))
    np.testing.assert_allclose(score.by_class, np.nanmean(expected, 0), rtol=1e-6)
    assert score.mean == pytest.approx(np.nanmean(np.nanmean(expected, 0)))
    assert 0.05 < score.mean < 0.95


def halves(middle: int, size_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    labels = np.zeros(size_hw, np.uint8)
    labels[:, middle:] = 1
    return labels


def test_a_boundary_may_be_off_by_the_tolerance_and_no_more() -> None:
    for shift, expected in ((0, 1.0), (2, 1.0), (3, 0.0)):  # 0.02 of the diagonal, 100 pixels, is 2
        score = BoundaryF1(TWO, 0.02)
        score.update(halves(40 + shift), halves(40))
        assert score.by_class.tolist() == [expected, expected]
    score = BoundaryF1(TWO, 0.02)
    score.update(halves(83, (120, 160)), halves(80, (120, 160)))  # twice the picture, twice the tolerance
    assert score.mean == 1.0


def test_a_class_that_only_one_of_the_two_has_counts_as_missed() -> None:
    score = BoundaryF1(TWO)
    score.update(np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8))  # no boundary at all: does not count
    assert np.isnan(score.mean)
    assert score.to_json()["boundary_f1"] is None
    score.update(np.zeros((60, 80), np.uint8), halves(40))
    assert score.by_class.tolist() == [0.0, 0.0]
    score.update(halves(40), halves(40))
    assert score.to_json() == {
        "boundary_f1": 0.5, "boundary_f1_by_class": {"left": 0.5, "right": 0.5}, "boundary_tolerance": 0.0075,
    }  # fmt: skip


def test_what_is_predicted_where_nothing_is_labelled_does_not_matter() -> None:
    truth = halves(40)
    truth[:30] = 255
    noise = halves(40)
    noise[:30] = np.random.default_rng(0).integers(0, 2, (30, 80))
    score = BoundaryF1(TWO)
    score.update(noise, truth)
    assert score.mean == 1.0


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(UsageError, match="sizes must agree"):
        BoundaryF1(TWO).update(halves(40), halves(40, (60, 90)))
    with pytest.raises(UsageError, match=r"tolerance of 0\.75"):
        BoundaryF1(TWO, 0.75)
