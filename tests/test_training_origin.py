"""The result of a run can teach and initialise other runs, like a shipped network."""

import json
from pathlib import Path

import pytest
import torch
from training_runs import config

from rtseg.core.errors import WeightsError
from rtseg.training.checkpoint import load_tree
from rtseg.training.origin import find_origin
from rtseg.training.run import train

pytestmark = pytest.mark.slow

SPLITS = {"split": "train", "holdouts": ("val",)}


@pytest.fixture(scope="module")
def best(camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "earlier"
    train(config(camvid, folder, epochs=1, **SPLITS))
    return folder / "best.safetensors"


def test_a_runs_network_is_found_with_its_weights(best: Path) -> None:
    origin = find_origin(str(best))
    assert (origin.name, origin.model, origin.recipe["epochs_done"]) == ("earlier", "enet", 1)
    state, kept = origin.network().state_dict(), load_tree(best)
    assert all(torch.equal(state[name], value.to(state[name].dtype)) for name, value in kept.items())
    assert origin.paths == [best, best.with_suffix(".json")]


def test_it_teaches_and_is_started_from(best: Path, camvid: Path, tmp_path: Path) -> None:
    train(config(camvid, tmp_path, epochs=1, **SPLITS, teacher=(str(best),), init=str(best)))
    recipe = json.loads((tmp_path / "best.json").read_text())["recipe"]
    sha256 = find_origin(str(best)).sha256
    assert [teacher["sha256"] for teacher in recipe["teachers"]] == [recipe["init"]["sha256"]] == [sha256]
    assert recipe["init"]["recipe"]["epochs_done"] == 1


def test_what_is_missing_is_told(best: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        find_origin(str(tmp_path / "best.safetensors"))
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(best.read_bytes())
    with pytest.raises(WeightsError, match=r"needs the card that its run wrote beside it, alone\.json"):
        find_origin(str(alone))
