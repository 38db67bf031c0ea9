"""Test-time averaging: the mean of the probabilities, at full size."""

import numpy as np
import pytest
import torch
from fakes import FakeEngine, fake_artifact
from torch.nn import functional

from rtseg.core.errors import UsageError
from rtseg.live.averaging import AveragingSegmenter
from rtseg.live.segmenter import EngineChoice
from rtseg.pictures.average import average_labels


@pytest.mark.parametrize("size_hw", [(50, 70), (33, 2000), (300, 300)])
def test_labels_are_those_of_the_mean_probability(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    views = [rng.normal(0, 3, (11, *coarse)).astype(np.float32) for coarse in ((9, 12), (13, 18), (50, 70))]
    total = sum(
        functional.interpolate(torch.from_numpy(view)[None], size_hw, mode="bilinear", align_corners=False).softmax(1)
        for view in views
    )
    expected = total[0].argmax(0).numpy()  # type: ignore[index]
    labels = average_labels(views, size_hw)
    assert labels.dtype == np.uint8
    assert (labels == expected).mean() > 0.9999  # rounding, where two classes are equal


def test_one_confident_view_outweighs_two_that_waver() -> None:
    sure, unsure = np.zeros((2, 3, 4, 4), np.float32)
    sure[0] += 9  # class 0 with nearly 1
    unsure[1] += 0.1  # class 1 with a little more than 1/3
    assert (average_labels([sure, unsure, unsure], (8, 8)) == 0).all()
    assert (average_labels([unsure, unsure], (8, 8)) == 1).all()


def choice(**changes: object) -> EngineChoice:
    made: list[FakeEngine] = []

    def load(name: str, artifact: object, options: object) -> FakeEngine:
        made.append(FakeEngine(artifact, options))
        return made[-1]

    result = EngineChoice(fake_artifact(), size_hw=(64, 96), loader=load, **changes)  # type: ignore[arg-type]
    object.__setattr__(result, "made", made)
    return result


def test_mirror_images_are_turned_back() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :32] = 4  # the fake engine labels by the blue value
    image[:20, 64:] = 7
    with AveragingSegmenter(choice(), (1.0,)) as plain, AveragingSegmenter(choice(), (1.0,), flip=True) as both:
        np.testing.assert_array_equal(both(image), plain(image))
        assert both(image)[40, 10] == 4
        assert both(image)[10, 90] == 7


def test_each_scale_has_an_engine_of_its_size_and_labels_are_the_pictures() -> None:
    chosen = choice()
    segmenter = AveragingSegmenter(chosen, (0.5, 1.0, 1.5))
    labels = segmenter(np.full((60, 90, 3), 6, np.uint8))
    assert (labels.shape, set(labels.ravel())) == ((60, 90), {6})
    assert segmenter.sizes == [(32, 64), (64, 96), (96, 160)]  # multiples of 32
    segmenter(np.full((60, 90, 3), 6, np.uint8))
    segmenter.close()
    assert [(engine.calls, engine.released) for engine in chosen.made] == [(2, True)] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("scales", [(), (0.1,), (1.0, 5.0), (float("nan"),)])
def test_scales_that_make_no_sense_are_told(scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"from 0\.25 to 4"):
        AveragingSegmenter(choice(), scales)
