"""Test-time averaging: the mean of the probabilities, at full size."""

import numpy as np
import pytest
from fakes import FakeEngine, FakeSink, FakeSource, fake_segmenter
from reference import interpolate

import rtseg
from rtseg.core.errors import UsageError
from rtseg.live.labellers.averaging import Averaging
from rtseg.live.loop import Loop
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.average import average_labels


@pytest.mark.parametrize("size_hw", [(50, 70), (33, 2000), (300, 300)])
def test_labels_are_those_of_the_mean_probability(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    views = [rng.normal(0, 3, (11, *coarse)).astype(np.float32) for coarse in ((9, 12), (13, 18), (50, 70))]
    scores = [np.exp(interpolate(view, size_hw)) for view in views]
    expected = sum(score / score.sum(0) for score in scores).argmax(0)  # type: ignore[attr-defined]
    labels = average_labels(views, size_hw)
    assert labels.dtype == np.uint8
    assert (labels == expected).mean() > 0.9999  # rounding, if two classes are equal


def test_one_confident_view_outweighs_two_that_waver() -> None:
    sure, unsure = np.zeros((2, 3, 4, 4), np.float32)
    sure[0] += 9  # class 0 with nearly 1
    unsure[1] += 0.1  # class 1 with a little more than 1/3
    assert (average_labels([sure, unsure, unsure], (8, 8)) == 0).all()
    assert (average_labels([unsure, unsure], (8, 8)) == 1).all()


def test_mirror_images_are_turned_back() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :32] = 4  # the fake engine labels by the blue value
    image[:20, 64:] = 7
    with Averaging(fake_segmenter([])) as plain, Averaging(fake_segmenter([]), flip=True) as both:
        np.testing.assert_array_equal(both(image), plain(image))
        assert both(image)[40, 10] == 4
        assert both(image)[10, 90] == 7


def test_each_scale_has_an_engine_of_its_size_and_labels_are_the_pictures() -> None:
    made: list[FakeEngine] = []
    averaging = Averaging(fake_segmenter(made), (0.5, 1.0, 1.5))
    labels = averaging(np.full((60, 90, 3), 6, np.uint8))
    assert (labels.shape, set(labels.ravel())) == ((60, 90), {6})
    assert averaging.sizes == [(32, 64), (64, 96), (96, 160)]  # multiples of 32
    calls = [engine.calls for engine in made]
    averaging(np.full((60, 90, 3), 6, np.uint8))
    averaging.close()
    assert [engine.calls - before for engine, before in zip(made, calls, strict=True)] == [1, 1, 1]
    assert [engine.released for engine in made] == [True] * 3


def test_it_labels_a_video_as_any_labeller_does() -> None:
    sink = FakeSink()
    with Averaging(fake_segmenter([], threads=3), (1.0, 0.5), flip=True) as averaging:
        report = Loop(FakeSource(12), averaging, sinks=[sink]).run()
        streamed = [int(labels[0, 0]) for _, labels in rtseg.stream(FakeSource(3), averaging)]
    assert sink.labels == [index % 11 for index in range(12)]
    assert streamed == [0, 1, 2]
    assert {"resize", "engine", "upsample"} <= set(report.stages_ms)


def test_an_engine_alone_cannot_be_scaled() -> None:
    with pytest.raises(UsageError, match="one input size"):
        Averaging(Segmenter(FakeEngine()), (1.0, 0.5))(np.zeros((64, 96, 3), np.uint8))


@pytest.mark.parametrize("scales", [(), (0.1,), (1.0, 5.0), (float("nan"),)])
def test_scales_that_make_no_sense_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"from 0\.25 to 4"):
        Averaging(fake_segmenter([]), scales)
