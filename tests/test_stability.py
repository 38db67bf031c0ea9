"""Temporal stability: flips are counted only on still pixels of consecutive frames."""

import cv2
import numpy as np
import pytest
from fakes import FakeEngine

from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.consistency import Consistency, Flow
from rtseg.metrics.stability import Stability

LABELS = LabelSet("three", ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def frame(index: int, grey: int | np.ndarray = 100, size_hw: tuple[int, int] = (10, 10)) -> Frame:
    plane = np.broadcast_to(np.asarray(grey, np.uint8), size_hw)
    return Frame(np.repeat(plane[..., None], 3, 2), index, float(index), 0.0)


def full(label: int, size_hw: tuple[int, int] = (10, 10)) -> np.ndarray:
    return np.full(size_hw, label, np.uint8)


def test_flips_are_a_share_of_the_still_pixels() -> None:
    stability = Stability(LABELS)
    before, after = full(0), full(0)
    before[:, 5:] = 1
    after[:, 5:] = 1
    after[0] = 2  # ten of a hundred flip: five of each class
    moving = np.full((10, 10), 100, np.uint8)
    moving[5:] = 103  # by 3: moves; 102 would still be still
    moving[4] = 102
    after[9] = 2  # flips too, but the picture changed there
    stability.update(frame(0), before)
    stability.update(frame(1, moving), after)
    assert (stability.frames, stability.pairs) == (2, 1)
    assert stability.still_share == 0.5
    assert stability.flip_share == pytest.approx(10 / 50)
    np.testing.assert_allclose(stability.flips_by_class, [5 / 25, 5 / 25, np.nan])
    assert stability.to_json() == {
        "flip_share": 0.2, "flips_by_class": {"a": 0.2, "b": 0.2, "c": None}, "still_share": 0.5, "frames": 2,
        "pairs": 1,
    }  # fmt: skip


def test_pairs_are_pooled_and_the_callers_array_may_be_filled_anew() -> None:
    stability, labels = Stability(LABELS), full(0)
    for index, label in enumerate((0, 0, 1, 1, 1)):
        labels[:] = label
        stability.update(frame(index), labels)
    assert stability.pairs == 4
    assert stability.flip_share == pytest.approx(1 / 4)
    np.testing.assert_allclose(stability.flips_by_class, [1 / 2, 0, np.nan])


def test_frames_that_do_not_follow_one_another_are_not_compared() -> None:
    stability = Stability(LABELS)
    stability.update(frame(0), full(0))
    stability.update(frame(2), full(1))  # frame 1 was damaged
    stability.update(frame(3, size_hw=(10, 20)), full(2, (10, 20)))
    assert (stability.frames, stability.pairs) == (3, 0)
    assert np.isnan(stability.flip_share)
    assert stability.to_json()["still_share"] is None


def test_a_segmenter_of_pixels_is_steady_on_a_still_picture_and_not_on_noise() -> None:
    rng = np.random.default_rng(0)
    pictures = {"still": [100] * 3, "noise": [np.uint8(98) + rng.integers(0, 5, (64, 96), np.uint8) for _ in range(3)]}
    shares = {}
    for name, planes in pictures.items():
        with Segmenter(FakeEngine()) as segmenter:  # labels by the blue value
            stability = Stability(segmenter.labels)
            for index, plane in enumerate(planes):
                shown = frame(index, plane, (64, 96))
                stability.update(shown, segmenter(shown))
        shares[name] = stability.flip_share
    assert shares["still"] == 0
    assert shares["noise"] > 0.5


def moved(index: int, step: int = 3) -> np.ndarray:
    """A texture that moves to the right."""
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 160), np.uint8), (0, 0), 2)
    return texture[:, 60 - step * index : 156 - step * index]


def halves(index: int, step: int = 3) -> np.ndarray:
    """Class 1 right of an edge that moves with the texture, else class 0."""
    labels = full(0, (64, 96))
    labels[:, 30 + step * index :] = 1
    return labels


def test_labels_that_move_with_the_picture_are_consistent() -> None:
    flow, moving, staying = Flow(), Consistency(LABELS), Consistency(LABELS)
    for index in range(6):
        places = flow(frame(index, moved(index), (64, 96)))
        assert (places is None) == (index == 0)
        if places is not None:
            x = places[8:-8, 12:-12, 0] - np.arange(12, 84)
            assert np.abs(x + 3).max() < 0.5  # where it was
        moving.update(halves(index), places)
        staying.update(halves(0), places)
    assert moving.pairs == staying.pairs == 5
    assert moving.miou > 0.99
    # warped, the edge is 3 columns further right; what comes in from the left, 3 columns, is not counted
    assert staying.miou == pytest.approx((27 / 30 + 63 / 66) / 2, abs=0.01)
    assert moving.to_json() == {"consistency": round(moving.miou, 4)}


def test_flow_needs_consecutive_frames_of_one_size() -> None:
    flow, consistency = Flow(), Consistency(LABELS)
    for index, size_hw in ((0, (64, 96)), (2, (64, 96)), (3, (32, 96))):
        places = flow(frame(index, 100, size_hw))
        assert places is None
        consistency.update(full(0, size_hw), places)
    assert consistency.to_json() == {"consistency": None}
    with pytest.raises(UsageError, match="frames of 12x96 are too small for optical flow: 16 pixels"):
        flow(frame(4, 100, (12, 96)))
