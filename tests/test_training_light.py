"""Other light and weather changes pictures but never labels, and depends on the seed alone."""

import numpy as np
import pytest
from camvid_tree import NAMES, make_camvid
from training_runs import config

from rtseg.datasets import open_data
from rtseg.training.augment import training_augmentation
from rtseg.training.data import TrainingSet
from rtseg.training.light import Exposure, Haze, Temperature, UnevenLight, other_light

pytestmark = pytest.mark.slow

PICTURE = np.random.default_rng(0).integers(40, 160, (48, 64, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 12, (48, 64), np.uint8)


def test_every_change_keeps_the_labels_and_follows_from_the_seed():
    light = other_light(1.0)
    for index in range(len(light.transforms)):
        alone = other_light(1.0)
        alone.transforms = [light.transforms[index]]
        alone.transforms_ps = [1.0]
        results = []
        for seed in (3, 3, 4):
            alone.set_random_seed(seed)
            results.append(alone(image=PICTURE, mask=LABELS))
        name = type(light.transforms[index]).__name__
        assert all(np.array_equal(result["mask"], LABELS) for result in results), name
        assert all((result["image"].shape, result["image"].dtype) == (PICTURE.shape, np.uint8) for result in results)
        assert not np.array_equal(results[0]["image"], PICTURE), name
        assert np.array_equal(results[0]["image"], results[1]["image"]), name
        assert not np.array_equal(results[0]["image"], results[2]["image"]), name


def test_light_is_that_share_of_the_pictures_and_changes_nothing_else():
    plain, half = (training_augmentation((32, 32), (0.75, 1.5), 11, light) for light in (0.0, 0.5))
    changed = 0
    for seed in range(60):
        for augment in (plain, half):
            augment.set_random_seed(seed)
        one, two = (augment(image=PICTURE, mask=LABELS) for augment in (plain, half))
        assert np.array_equal(one["mask"], two["mask"])
        changed += not np.array_equal(one["image"], two["image"])
    assert 15 <= changed <= 45


def test_haze_veils_what_is_far_and_exposure_loses_what_is_bright():
    haze = Haze(p=1.0)
    haze.set_random_seed(0)
    black = np.zeros((100, 20, 3), np.uint8)
    veiled = haze(image=black)["image"].astype(int)
    assert veiled[0].min() > 50
    assert veiled[-1].max() < 5
    assert (np.diff(veiled[:, 0, 0]) <= 0).all()
    exposed = Exposure(p=1.0)(image=np.full((4, 4, 3), 200, np.uint8))["image"]
    assert (exposed == 255).all()


def test_warm_and_cold_move_red_and_blue_apart():
    grey = np.full((4, 4, 3), 100, np.uint8)
    change = Temperature(p=1.0)
    signs = set()
    for seed in range(12):
        change.set_random_seed(seed)
        blue, green, red = change(image=grey)["image"][0, 0].astype(int)
        assert green == 100
        assert abs(red - blue) >= 18
        signs.add(red > blue)
    assert signs == {True, False}


def test_uneven_light_is_smooth():
    change = UnevenLight(p=1.0)
    change.set_random_seed(1)
    lit = change(image=np.full((120, 160, 3), 150, np.uint8))["image"].astype(int)[..., 0]
    assert lit.max() - lit.min() > 40
    assert max(np.abs(np.diff(lit, axis=axis)).max() for axis in (0, 1)) <= 8


@pytest.mark.parametrize(("train_size", "expected"), [(None, (48, 64)), ("96x128", (96, 128)), ("24x32", (24, 32)),
                                                      ("48x192", (83, 111))])  # fmt: skip
def test_pictures_have_the_training_size_in_their_own_shape(tmp_path, train_size, expected):
    make_camvid(tmp_path, NAMES[:2])
    data = open_data("camvid", tmp_path, "train")
    samples = TrainingSet(config(tmp_path, tmp_path, train_size=train_size), data)
    image, labels = samples._sample(0, 1)
    assert image.shape[:2] == labels.shape == expected
    assert set(np.unique(labels)) <= set(np.unique(data.sample(1).labels))  # ids stay ids
