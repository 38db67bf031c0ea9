"""What the user specifies for an imported network: its classes, and the scaling of its pictures."""

import json

import numpy as np
import pytest

from rtseg.core.errors import InputError, UsageError
from rtseg.core.labels import LabelSet
from rtseg.importing.classes import find_classes
from rtseg.importing.label_sets import LABEL_SETS, colour_map
from rtseg.importing.scaling import PRESETS, Scaling, find_scaling


def test_the_scaling_is_what_the_options_say():
    caffe = find_scaling(False, mean=(104, 117, 123), std=(1,), order="bgr", scale=1)
    picture = np.array([[[[10, 20, 30]]]], np.uint8)
    assert caffe.apply(picture).tolist() == [[[[-94, -97, -93]]]]
    assert caffe.of_unit_rgb()["mean"] == pytest.approx((123 / 255, 117 / 255, 104 / 255))
    assert PRESETS["half"].apply(np.array([[[[0, 0, 255]]]], np.uint8)).tolist() == [[[[1, -1, -1]]]]
    reversed_ = find_scaling(False, "imagenet", order="bgr")  # red keeps its mean
    assert (reversed_.order, reversed_.mean, reversed_.std) == ("bgr", (0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    assert reversed_.of_unit_rgb()["mean"] == (0.485, 0.456, 0.406)
    assert find_scaling(False, "imagenet", mean=(0.1, 0.2, 0.3), order="bgr").mean == (0.1, 0.2, 0.3)
    for bad in ({"mean": (123, 117, 104), "std": (58,)}, {"mean": (0,), "std": (0,)}, {"mean": (0, 0), "std": (1,)}):
        with pytest.raises(UsageError):
            find_scaling(False, order="rgb", **bad)
    with pytest.raises(UsageError):
        Scaling("rbg")


def test_the_known_classes():
    counts = {"cityscapes": 19, "ade20k": 150, "voc": 21, "coco-stuff": 171, "camvid11": 11}
    assert {name: len(labels) for name, labels in LABEL_SETS.items()} == counts
    assert all(len(set(labels.names)) == len(labels) for labels in LABEL_SETS.values())
    assert LABEL_SETS["voc"].palette_rgb[20] == (0, 64, 128)
    assert len(set(colour_map(256))) == 256
    assert LABEL_SETS["ade20k"].index("person") == 12


@pytest.mark.parametrize(
    "data",
    [
        ["grass", "path"],
        {"classes": [{"name": "grass", "rgb": [0, 128, 0]}, {"name": "path", "rgb": [128, 128, 128]}]},
        {"labels": LabelSet("mine", ("grass", "path"), ((0, 1, 2), (3, 4, 5))).to_json()},
        {"architectures": ["…"], "id2label": {"1": "path", "0": "grass"}},
    ],
)
def test_classes_from_a_file(tmp_path, data):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert find_classes(str(path)).names == ("grass", "path")


def test_classes_that_are_none(tmp_path):
    path = tmp_path / "classes.json"
    twice = {"labels": LabelSet("mine", ("a", "b", "a", "b"), ((0, 0, 0),) * 4).to_json()}
    bad = [
        (["car", "road", "car"], InputError, "names of classes must differ: 'car' is 0 and 2"),
        ({"id2label": {"0": "x", "1": "x"}}, InputError, "'x' is 0 and 1"),
        (twice, InputError, "'a' is 0 and 2, 'b' is 1 and 3"),
        (["a", 1], InputError, "texts"),
        ({}, InputError, "id2label"),
        (["x"] * 300, UsageError, "256 is the most"),
    ]
    for data, kind, said in [*((json.dumps(data), kind, said) for data, kind, said in bad), ("no", InputError, "JSON")]:
        path.write_text(data, encoding="utf-8")
        with pytest.raises(kind, match=said):
            find_classes(str(path))
    with pytest.raises(UsageError, match="cityscapes"):
        find_classes("ade")
