from pathlib import Path

import cv2
import numpy as np
import pytest
from camvid_tree import NAMES, make_camvid

from rtseg.core.errors import InputError, UsageError
from rtseg.datasets import DATASETS, open_data

CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid"


def test_tail_is_the_end_of_each_drive(tmp_path: Path) -> None:
    make_camvid(tmp_path, NAMES, size_hw=(8, 8))
    parts = {split: open_data("camvid", tmp_path, split) for split in ("train", "fit", "tail")}
    fit, tail = ([parts[split].sample(i).name for i in range(len(parts[split]))] for split in ("fit", "tail"))
    assert len(parts["train"]) == 60
    assert not set(fit) & set(tail)
    assert set(fit) | set(tail) == set(NAMES)
    assert tail == NAMES[17:20] + NAMES[54:60]


def test_sample_is_picture_and_labels(tmp_path: Path) -> None:
    make_camvid(tmp_path, NAMES[:2])
    data = open_data("camvid", tmp_path, "train")
    sample = data.sample(1)
    assert data.size_hw == (48, 64)
    assert (sample.image.shape, sample.image.dtype) == ((48, 64, 3), np.uint8)
    assert (sample.labels.shape, sample.labels.dtype) == ((48, 64), np.uint8)


def test_bad_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.txt is missing"):
        open_data("camvid", tmp_path, "train")
    make_camvid(tmp_path, NAMES[:3])
    with pytest.raises(UsageError, match="unknown split of camvid 'vall'"):
        open_data("camvid", tmp_path, "vall")
    with pytest.raises(UsageError, match="--root"):
        open_data("camvid", None, "val")
    data = open_data("camvid", tmp_path, "train")
    labels = tmp_path / "trainannot" / NAMES[1]
    cv2.imwrite(str(labels), np.full((48, 64), 12, np.uint8))
    with pytest.raises(InputError, match="holds id 12"):
        data.sample(1)
    cv2.imwrite(str(labels), np.zeros((24, 64), np.uint8))
    with pytest.raises(InputError, match="sizes must agree"):
        data.sample(1)
    labels.unlink()
    with pytest.raises(InputError, match="8-bit class ids"):
        data.sample(1)


def test_scenes_are_labelled_and_splits_differ() -> None:
    val, train = open_data("scenes", None, "val"), open_data("scenes", None, "train")
    first = val.sample(0)
    assert first.image.shape[:2] == first.labels.shape == val.size_hw
    assert first.labels.max() < len(val.labels)
    assert np.array_equal(first.image, val.sample(0).image)
    assert not np.array_equal(first.image, train.sample(0).image)


def test_every_data_set_states_its_splits() -> None:
    for name in DATASETS:
        assert DATASETS.get(name).splits


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
def test_camvid_splits_have_their_published_sizes() -> None:
    sizes = {split: len(open_data("camvid", CAMVID, split)) for split in ("train", "val", "fit", "tail")}
    assert sizes == {"train": 367, "val": 101, "fit": 312, "tail": 55}
    sample = open_data("camvid", CAMVID, "val").sample(50)
    assert sample.image.shape == (360, 480, 3)
    assert set(np.unique(sample.labels)) <= set(range(12))
