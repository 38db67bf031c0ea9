"""Calibration: the error by hand, the temperature of a network known to be overconfident, and the card's entry."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, fake_card, fake_network  # noqa: F401 - a fixture

from rtseg.apps import evaluate as app
from rtseg.core.card import Card
from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.core.zoo import resolve
from rtseg.datasets import DATASETS, open_data
from rtseg.datasets.base import DataSet, Sample
from rtseg.engines.onnxruntime_engine import OnnxRuntimeEngine
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.boundary import BoundaryF1
from rtseg.metrics.calibration import Calibration, Temperature
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.pictures.confidence import as_levels, confidence

LABELS = LabelSet("three", ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def test_the_error_by_hand() -> None:
    sure = np.array([[0.95, 0.96, 1.0, 0.35], [0.36, 0.5, 0.9, 0.62]], np.float32)
    predicted = np.zeros((2, 4), np.uint8)
    truth = np.array([[0, 1, 0, 0], [2, 0, LABELS.ignore_index, 1]], np.uint8)
    # bins of 1/15: [0.933, 1] has 0.95 right, 0.96 wrong, 1 right; [0.333, 0.4) 0.35 right, 0.36 wrong;
    # [0.467, 0.533) 0.5 right; [0.6, 0.667) 0.62 wrong; 0.9 has no label: 7 pixels
    gaps = abs(2 - 2.91), abs(1 - 0.71), abs(1 - 0.5), abs(0 - 0.62)
    calibration = Calibration(LABELS)
    calibration.add(sure, predicted, truth)
    assert calibration.ece == pytest.approx(sum(gaps) / 7, abs=1e-6)
    calibration.add(np.full((7, 1), 0.5, np.float32), np.zeros((7, 1), np.uint8), np.full((7, 1), 2, np.uint8))
    gaps = abs(2 - 2.91), abs(1 - 0.71), abs(1 - 4.0), abs(0 - 0.62)  # pixels of all pictures share the bins
    assert calibration.ece == pytest.approx(sum(gaps) / 14, abs=1e-6)
    assert calibration.to_json() == {"ece": round(sum(gaps) / 14, 4), "temperature": 1.0}


def test_nothing_is_known_without_labels() -> None:
    calibration = Calibration(LABELS)
    calibration.add(np.ones((2, 2), np.float32), np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert calibration.to_json()["ece"] is None
    temperature = Temperature(LABELS)
    temperature.update(np.zeros((3, 2, 2), np.float32), np.full((4, 4), 255, np.uint8))
    with pytest.raises(UsageError, match="no pixel of the split is labelled"):
        temperature.fit()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_a_known_scale_is_found(scale: float) -> None:
    """Truth drawn from softmax(z), and a network that returns scale * z: its temperature is the scale."""
    rng = np.random.default_rng(0)
    temperature, before, after = Temperature(LABELS), Calibration(LABELS), Calibration(LABELS, scale)
    for _ in range(24):
        logits = rng.normal(0, 1.5, (3, 44, 44)).astype(np.float32)
        chances = np.exp(logits) / np.exp(logits).sum(0)
        truth = (rng.random((44, 44)) > chances.cumsum(0)).sum(0).clip(0, 2).astype(np.uint8)
        said = logits * np.float32(scale)
        temperature.update(said, truth)
        for calibration in (before, after):
            calibration.update(said, said.argmax(0).astype(np.uint8), truth)
    assert temperature.fit() == pytest.approx(scale, rel=0.03)
    assert after.ece < 0.01
    assert before.ece > 0.05 or scale == 1


def test_pixels_are_those_of_the_interpolated_logits() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (3, 9, 12)).astype(np.float32)
    fine, coarse = Temperature(LABELS), Temperature(LABELS)
    truth = rng.integers(0, 3, (36, 48), np.uint8)
    fine.update(np.stack([_enlarged(plane, (36, 48)) for plane in logits]), truth)
    coarse.update(logits, truth)
    assert coarse.fit() == pytest.approx(fine.fit(), rel=1e-3)


def _enlarged(plane: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        np.clip((np.arange(full) + 0.5) * coarse / full - 0.5, 0, coarse - 1)
        for full, coarse in zip(size_hw, plane.shape, strict=True)
    )
    across = np.stack([np.interp(columns, np.arange(plane.shape[1]), line) for line in plane])
    return np.stack([np.interp(rows, np.arange(plane.shape[0]), line) for line in across.T]).T.astype(np.float32)


def test_a_network_that_is_always_right_has_no_temperature() -> None:
    temperature = Temperature(LABELS)
    truth = np.random.default_rng(0).integers(0, 3, (20, 20), np.uint8)
    temperature.update((np.arange(3)[:, None, None] == truth).astype(np.float32), truth)
    with pytest.raises(UsageError, match=r"no temperature from 0\.05 to 20 fits"):
        temperature.fit()


def test_a_temperature_changes_the_confidence_and_no_label() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (5, 6, 7)).astype(np.float32)
    np.testing.assert_allclose(confidence(logits, (24, 28), 2.0), confidence(logits / 2, (24, 28)), rtol=1e-6)
    one, three = np.zeros((1, 4, 4), np.float32), np.full((3, 4, 4), 700, np.float32)
    assert (confidence(one, (8, 8)) == 1).all()
    np.testing.assert_allclose(confidence(three, (8, 8)), 1 / 3, rtol=1e-6)
    far = np.stack([three[0], -three[0]])
    far[:, 2:] *= -1
    assert np.isfinite(confidence(far, (8, 8))).all()
    assert confidence(far, (8, 8)).max() == 1
    assert as_levels(np.array([[0, 0.5, 0.998, 1]], np.float32)).tolist() == [[0, 128, 254, 255]]


def test_labels_and_confidence_are_of_one_run() -> None:
    image = np.random.default_rng(0).integers(0, 11, (64, 96, 3), np.uint8)
    engine = FakeEngine()
    with Segmenter(engine) as segmenter:
        labels, sure = segmenter.with_confidence(image)
        assert engine.calls == 1
        np.testing.assert_array_equal(labels, segmenter(image))
        np.testing.assert_array_equal(sure, segmenter.confidence(image))
        assert (sure.shape, sure.dtype) == ((64, 96), np.float32)


def test_old_cards_have_the_temperature_1() -> None:
    data = fake_card(temperature=1.5, temperature_from="camvid/val").to_json()
    assert (Card.from_json(data).temperature, Card.from_json(data).temperature_from) == (1.5, "camvid/val")
    del data["temperature"], data["temperature_from"]
    assert (Card.from_json(data).temperature, Card.from_json(data).temperature_from) == (1.0, "")
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be a number above 0"):
            fake_card(temperature=wrong)


def mostly_right(data: DataSet, index: int) -> Sample:
    """A picture of one class, a fifth of whose rows is labelled as another."""
    image, truth = np.full((64, 96, 3), 3 + index, np.uint8), np.full((64, 96), 3 + index, np.uint8)
    truth[::5] = 7
    return Sample(f"{index}", image, truth)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _network(self, fake_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
        monkeypatch.setitem(DATASETS._entries, "stripes", "test_evaluate:Stripes")
        monkeypatch.setattr("test_evaluate.Stripes.sample", mostly_right)

    def test_it_writes_the_temperature_into_the_card(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options = {"model": "fake", "data": "stripes", "size": "64x96", "threads": 1}
        app.command(app.EvalOptions(**options, json=tmp_path / "before.json"))  # type: ignore[arg-type]
        before = json.loads((tmp_path / "before.json").read_text())
        assert before["temperature"] == 1
        assert "ece_at_temperature_1" not in before
        # one class has the logit 1 and ten have 0, so it is 21 % sure of itself, and right in 4 of 5 rows
        assert before["ece"] == pytest.approx(0.8 - 0.2137, abs=0.02)
        app.command(app.EvalOptions(**options, calibrate=True, json=tmp_path / "after.json"))  # type: ignore[arg-type]
        after = json.loads((tmp_path / "after.json").read_text())
        card = resolve("fake").card
        # 0.8 = e^b / (e^b + 10) at b = ln 40 = 3.69
        assert card.temperature == pytest.approx(1 / np.log(40), rel=0.05)
        assert card.temperature_from == "stripes/val"
        assert after["temperature"] == card.temperature
        assert after["ece_at_temperature_1"] == before["ece"]
        assert after["ece"] < 0.03
        assert {key: after[key] for key in ("miou", "iou")} == {key: before[key] for key in ("miou", "iou")}
        said = capsys.readouterr().out
        assert f"(ECE) at temperature {card.temperature:g}; {before['ece']:.4f} without it" in said

    def test_one_run_a_picture_gives_the_figures_of_labels_and_of_logits(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = RunSpec(tiny_model, "onnxruntime", "fp32", (64, 96), 1)
        data = open_data("stripes", None, "val")
        apart, calibration, boundary = ConfusionMatrix(data.labels), Calibration(data.labels), BoundaryF1(data.labels)
        with Segmenter(spec) as segmenter:
            for sample in data:
                labels = segmenter(sample.image)
                apart.update(labels, sample.labels)
                boundary.update(labels, sample.labels)
                calibration.update(segmenter.logits(sample.image), labels, sample.labels)
        runs, infer = [], OnnxRuntimeEngine._infer
        monkeypatch.setattr(OnnxRuntimeEngine, "_infer", lambda *given: (runs.append(1), infer(*given))[1])
        figures = app.score(app.EvalOptions(model=str(tiny_model), engine="onnxruntime", data="stripes", size="64x96"))
        assert len(runs) == len(data)
        expected = {**apart.to_json(), **boundary.to_json(), **calibration.to_json()}
        assert {key: figures[key] for key in expected} == expected
        assert 0 < figures["ece"] < 1

    def test_what_it_learned_from_and_what_gives_no_scores_is_refused(self, fake_network: Path) -> None:  # noqa: F811
        recipe = {"data": "stripes", "split": "val"}
        fake_card(name="fake", engine_order=("fake",), recipe=recipe).save(fake_network / "fake.json")
        with pytest.raises(UsageError, match="trained on stripes/val"):
            app.command(app.EvalOptions(model="fake", data="stripes", calibrate=True))
        fake_card(name="fake", engine_order=("fake",), output="labels").save(fake_network / "fake.json")
        with pytest.raises(UsageError, match="gives labels, not scores"):
            app.command(app.EvalOptions(model="fake", data="stripes", calibrate=True))
        with pytest.raises(UsageError, match="--calibrate fits the fp32 form on a data set"):
            app.EvalOptions(model="fake", stability="synthetic", calibrate=True)
