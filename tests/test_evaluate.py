import json
from dataclasses import dataclass

import numpy as np
import pytest
from fakes import FakeEngine, fake_artifact, fake_network  # noqa: F401

from rtseg.apps import evaluate as app
from rtseg.core.errors import InputError, UsageError
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.datasets import DATASETS
from rtseg.datasets.base import DataSet, Sample
from rtseg.runtime.evaluate import evaluate
from rtseg.runtime.segmenter import Segmenter


class Stripes(DataSet):
    """Two pictures: class i is drawn as blue value i, which is how the fake engine labels it."""

    name = "stripes"
    splits = ("val",)
    labels = CAMVID11
    size_hw = (64, 96)

    def __len__(self):
        return 2

    def sample(self, index):
        truth = np.zeros(self.size_hw, np.uint8)
        truth[:, 48:] = 3 + index
        image = np.repeat(truth[..., None], 3, 2)
        truth[:8] = CAMVID11.ignore_index  # above, nothing is known
        return Sample(f"{index}", image, truth)


@dataclass(frozen=True)
class Picture:
    image: np.ndarray
    labels: np.ndarray


def test_every_known_pixel_counts():
    image = np.full((64, 96, 3), 3, np.uint8)
    truth = np.full((64, 96), 3, np.uint8)
    truth[:16] = 5
    truth[16:32] = CAMVID11.ignore_index
    matrix = evaluate(Segmenter(FakeEngine()), [Picture(image, truth)] * 2, CAMVID11)
    assert (matrix.frames, matrix.counts.sum()) == (2, 2 * 48 * 96)
    assert matrix.counts[3, 3] == 2 * 32 * 96
    assert matrix.counts[5, 3] == 2 * 16 * 96
    assert matrix.miou == pytest.approx((2 / 3 + 0) / 2)


def test_labels_are_compared_at_the_size_of_the_picture():
    image = np.full((50, 70, 3), 4, np.uint8)
    matrix = evaluate(Segmenter(FakeEngine()), [Picture(image, np.full((50, 70), 4, np.uint8))], CAMVID11)
    assert matrix.pixel_accuracy == 1.0


def test_other_classes_are_told():
    labels = LabelSet("mine", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(UsageError, match="fake has the classes of camvid11, the data those of mine"):
        evaluate(Segmenter(FakeEngine()), [], labels)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _network(self, fake_network, monkeypatch):  # noqa: F811
        monkeypatch.setitem(DATASETS._entries, "stripes", "test_evaluate:Stripes")

    def test_it_prints_and_writes_the_figures(self, tmp_path, capsys):
        out = tmp_path / "figures.json"
        app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", threads=1, json=out))
        figures = json.loads(out.read_text())
        assert figures["frames"] == 2
        assert figures["iou"]["sky"] > 0.9
        assert figures["iou"]["car"] is None
        assert 0.9 < figures["miou"] <= 1
        expected = {
            "model": "fake", "engine": "fake", "runtime": "fake 1", "device": "CPU", "precision": "fp32",
            "size": [64, 96], "threads": 1, "data": "stripes", "split": "val",
            "sha256": fake_artifact().card.files["fp32"].sha256,
        }  # fmt: skip
        assert {key: figures[key] for key in expected} == expected
        printed = capsys.readouterr().out
        assert f"mIoU {figures['miou']:.4f}" in printed
        assert "does not occur" in printed

    @pytest.mark.parametrize(
        ("options", "error", "told"),
        [
            ({"data": "stripe"}, UsageError, "stripes"),
            ({"data": "stripes", "split": "test"}, UsageError, "val"),
            ({"data": "camvid"}, UsageError, "--root"),
            ({"data": "stripes", "engine": "fke"}, UsageError, "fake"),
            ({"data": "stripes", "precision": "fp8"}, UsageError, "fp16"),
            ({"data": "stripes", "size": "60x96"}, UsageError, "64x96"),
        ],
    )
    def test_what_does_not_fit_is_told(self, options, error, told):
        with pytest.raises(error, match=told):
            app.command(app.EvalOptions(model="fake", **options))

    def test_a_folder_without_the_data_is_told(self, tmp_path):
        with pytest.raises(InputError, match=r"val\.txt"):
            app.command(app.EvalOptions(model="fake", root=tmp_path))
