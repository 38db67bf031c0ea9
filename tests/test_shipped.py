"""The claims of every shipped card, recomputed from the files that it names."""

import json
from pathlib import Path

import numpy as np
import pytest

from rtseg.core.card import Card
from rtseg.core.files import file_sha256
from rtseg.core.runspec import RunSpec
from rtseg.core.zoo import resolve, shipped
from rtseg.datasets import open_data
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.boundary import BoundaryF1
from rtseg.metrics.evaluate import evaluate
from rtseg.models.base import count_inference_parameters, count_macs
from rtseg.models.weights import load_network

pytestmark = pytest.mark.slow

CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid"
NAMES = sorted(shipped())
FORMS = [(name, precision) for name in NAMES for precision in resolve(name).card.files]


@pytest.fixture(params=NAMES)
def card(request: pytest.FixtureRequest) -> Card:
    return resolve(request.param).card


def test_a_card_is_complete(card: Card) -> None:
    assert card.recipe["epochs_done"] > 0
    assert {"seed", "lr", "split", "crop", "torch"} <= set(card.recipe)
    assert "CamVid" in card.data_terms
    figures = card.figures()["camvid/val"]
    assert set(figures["iou"]) == set(card.labels.names)
    assert figures["frames"] == 101
    assert figures["miou"] == pytest.approx(np.mean(list(figures["iou"].values())), abs=1e-3)
    assert 0 < figures["boundary_f1"] < 1


def test_files_are_what_the_card_says(card: Card) -> None:
    folder = resolve(card.name).folder
    for entry in card.files.values():
        path = folder / entry.file
        assert (path.stat().st_size, file_sha256(path)) == (entry.bytes, entry.sha256)
        assert entry.bytes <= 16 << 20
    assert json.loads((folder / f"{card.name}.json").read_text())["name"] == card.name


def test_all_files_together_stay_small() -> None:
    folders = {resolve(name).folder for name in NAMES}
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 48 << 20


def test_parameters_and_arithmetic(card: Card) -> None:
    network = load_network(resolve(card.name))
    assert count_inference_parameters(network) == card.parameters
    assert count_macs(network, (1024, 2048)) / 1e9 == pytest.approx(card.gmac_1024x2048, abs=0.01)


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside this checkout")
@pytest.mark.parametrize(("name", "precision"), FORMS)
def test_figures_on_val_are_those_of_the_card(name: str, precision: str) -> None:
    metrics = resolve(name).card.metrics
    data = open_data("camvid", CAMVID, "val")
    boundary = BoundaryF1(data.labels)
    with Segmenter(RunSpec(name, "onnxruntime", precision)) as segmenter:
        found = evaluate(segmenter, data, data.labels, boundary)
    if precision != "fp32":  # processors round differently
        assert found.miou == pytest.approx(metrics[precision]["camvid/val"]["miou"], abs=0.005)
        return
    stated = metrics["fp32"]["camvid/val"]
    assert found.miou == pytest.approx(stated["miou"], abs=0.001)
    assert found.pixel_accuracy == pytest.approx(stated["pixel_accuracy"], abs=0.001)
    assert found.to_json()["iou"] == pytest.approx(stated["iou"], abs=0.003)
    assert boundary.mean == pytest.approx(stated["boundary_f1"], abs=0.002)
