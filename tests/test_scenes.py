from functools import cache

import cv2
import numpy as np
import pytest

from rtseg.core.errors import UsageError
from rtseg.core.labels import CAMVID11
from rtseg.scenes import StreetScene, textures

SIZE = (180, 240)


@cache
def street(seed, fps=30.0):
    """A scene that tests share, because its frames depend on its arguments alone."""
    return StreetScene(SIZE, seed=seed, fps=fps)


@pytest.fixture(scope="module")
def samples():
    """Frames and labels of several drives and moments."""
    out = []
    for seed in range(5):
        scene = street(seed, fps=10.0)
        out += [scene.render(index) for index in (0, 70, 400, 5000)]
    return out


def test_a_frame_follows_from_seed_and_number_whatever_was_drawn_before(monkeypatch):
    walked = street(seed=4, fps=10.0)
    for name in ("_crown", "_paint_facade"):  # drawn again, not cached as in conftest.py
        monkeypatch.setattr(textures, name, getattr(textures, name).__wrapped__)
    jumped = StreetScene(SIZE, seed=4, fps=10.0)
    frames = {index: walked.render(index) for index in range(33, 400, 84)}
    for index in (369, 33, 201):
        image, labels = jumped.render(index)
        assert np.array_equal(image, frames[index][0])
        assert np.array_equal(labels, frames[index][1])


def test_frame_is_the_moment_index_over_fps():
    slow, fast = street(seed=1, fps=10.0), street(seed=1)
    assert np.array_equal(slow.render(7)[1], fast.render(21)[1])


@pytest.mark.parametrize("size_hw", [(16, 16), (32, 32), (101, 203), (203, 101), (360, 480),
                                     pytest.param((1024, 2048), marks=pytest.mark.slow)])  # fmt: skip
def test_any_size(size_hw):
    image, labels = StreetScene(size_hw, seed=2).render(40)
    assert image.shape == (*size_hw, 3)
    assert labels.shape == size_hw
    assert image.dtype == labels.dtype == np.uint8
    assert image.flags.c_contiguous
    assert labels.flags.c_contiguous
    assert labels.max() < len(CAMVID11)
    assert image.std() > 10


def test_renders_do_not_alias():
    scene = street(seed=0, fps=10.0)
    image, labels = scene.render(0)
    kept = image.copy(), labels.copy()
    scene.render(30)
    assert np.array_equal(image, kept[0])
    assert np.array_equal(labels, kept[1])


@pytest.mark.slow
def test_most_frames_show_every_class(samples):
    shares = np.array([np.bincount(labels.ravel(), minlength=len(CAMVID11)) / labels.size for _, labels in samples])
    assert shares.shape[1] == len(CAMVID11), "a label beyond the classes"
    visible = (shares > 2e-4).mean(axis=0)
    assert dict(zip(CAMVID11.names, visible, strict=True)) == {
        name: pytest.approx(1.0, abs=0.3) for name in CAMVID11.names
    }
    assert (shares.mean(axis=0) > 1e-3).all()
    assert shares.max() < 0.75, "one class fills a frame"


def test_something_moves_but_most_stays():
    scene = street(seed=1)
    for index in (0, 100, 999):
        (image, labels), (next_image, next_labels) = scene.render(index), scene.render(index + 1)
        same = (labels == next_labels).mean()
        assert 0.9 < same < 1.0
        assert cv2.absdiff(image, next_image).mean() > 0.5


def test_the_drive_goes_on_for_hours():
    scene = street(seed=1)
    image, labels = scene.render(10_000_000)
    assert len(np.unique(labels)) >= 8
    assert image.std() > 10


def test_seeds_differ():
    frames = [street(seed, fps=10.0).render(0) for seed in range(5)]
    for one in range(5):
        for other in range(one):
            assert (frames[one][1] != frames[other][1]).mean() > 0.1
            assert cv2.absdiff(frames[one][0], frames[other][0]).mean() > 10


def test_sky_is_above_and_brighter_than_the_road(samples):
    for image, labels in samples:
        sky, road = (labels == CAMVID11.index(name) for name in ("sky", "road"))
        assert image[sky].mean() > image[road].mean() + 20
        assert np.nonzero(sky)[0].mean() < np.nonzero(road)[0].mean()


@pytest.mark.slow
def test_label_edges_lie_on_image_edges():
    """Along sky borders the picture's edge is where the labels' is: shifted by pixels, the agreement drops."""
    steps = {shift: [] for shift in (-3, 0, 3)}
    for seed in range(6):
        image, labels = StreetScene(SIZE, seed=seed).render(10)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
        sky = labels == CAMVID11.index("sky")
        for shift, values in steps.items():
            moved = np.roll(sky, shift, axis=0)
            upper, lower = moved[4:-4][:-1], moved[4:-4][1:]
            change = grey[4:-4][:-1] - grey[4:-4][1:]
            values.append(change[upper & ~lower].mean())
    assert np.mean(steps[0]) > 3 * max(abs(np.mean(steps[-3])), abs(np.mean(steps[3])))


def test_pixels_of_a_class_look_alike(samples):
    """Colours say something about labels: they vary much more between classes than by chance."""
    image, labels = samples[0]
    total = image.astype(np.float32).reshape(-1, 3)
    within = sum((labels == c).mean() * total[labels.ravel() == c].var(axis=0).mean() for c in np.unique(labels))
    assert within < 0.6 * total.var(axis=0).mean()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size_hw": (8, 100)}, "8x100"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UsageError, match=words):
        StreetScene(**arguments)


def test_negative_frame():
    with pytest.raises(UsageError, match="start at 0"):
        street(seed=1).render(-1)
