"""What every shipped card claims, recomputed from the files that it names."""

import json
from pathlib import Path

import numpy as np
import pytest

from rtseg.core.card import Card
from rtseg.core.files import file_sha256
from rtseg.core.weights import resolve, shipped
from rtseg.datasets import open_data
from rtseg.models.base import count_inference_parameters, count_macs
from rtseg.models.weights import load_network
from rtseg.runtime.evaluate import evaluate
from rtseg.runtime.segmenter import open_segmenter
from rtseg.vision.boundary import BoundaryF1

CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid"
NAMES = sorted(shipped())
# CamVid's first 101 val frames are one clip; every fifth frame tells whether file and card belong together
STEP = 5


@pytest.fixture(params=NAMES)
def card(request: pytest.FixtureRequest) -> Card:
    return resolve(request.param).card


def test_a_card_is_complete(card: Card) -> None:
    assert card.recipe["epochs_done"] > 0
    assert {"seed", "lr", "split", "crop", "torch"} <= set(card.recipe)
    assert "CamVid" in card.data_terms
    figures = card.metrics["camvid/val"]
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
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 40 << 20


def test_parameters_and_arithmetic(card: Card) -> None:
    network = load_network(resolve(card.name))
    assert count_inference_parameters(network) == card.parameters
    assert count_macs(network, (1024, 2048)) / 1e9 == pytest.approx(card.gmac_1024x2048, abs=0.01)


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside this checkout")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_miou_of_a_part_of_val_is_near_the_card(card: Card, precision: str) -> None:
    """A fifth of the frames: what a file of other weights, or other pre-processing, could not reach."""
    if precision not in card.files:
        return
    stated = (card.metrics["int8"] if precision == "int8" else card.metrics)["camvid/val"]["miou"]
    data = open_data("camvid", CAMVID, "val")
    boundary = BoundaryF1(data.labels)
    with open_segmenter(card.name, "onnxruntime", precision) as segmenter:
        samples = (data.sample(index) for index in range(0, len(data), STEP))
        assert evaluate(segmenter, samples, data.labels, boundary).miou == pytest.approx(stated, abs=0.03)
    assert boundary.mean == pytest.approx(card.metrics["camvid/val"]["boundary_f1"], abs=0.03)
