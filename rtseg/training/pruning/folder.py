"""The folder of a pruned network, laid out like a run's, and the comparison of fine-tuned networks with baselines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.files import read_json, write_json
from rtseg.core.zoo import BEST, BEST_CARD
from rtseg.models import SegmentationModel, build_model
from rtseg.models.base import count_inference_parameters, count_macs
from rtseg.sinks.base import make_folder
from rtseg.training.checkpoint import save_tree
from rtseg.training.origin import Origin
from rtseg.training.pruning.prune import PAPER_SIZE
from rtseg.training.report import half


def write_pruned(model: SegmentationModel, origin: Origin, how: dict[str, Any], folder: Path) -> None:
    """Writes `best.safetensors` (fp16) and its card `best.json`, without scores, as the network is not trained yet.

    Args:
        model: the pruned network.
        origin: the network it was cut from.
        how: method, share and so on, for the card.
        folder: created if it does not exist.

    Raises:
        UsageError: the folder holds a training run.
        OutputError: it cannot be written.
    """
    if (folder / "last.ckpt").exists():
        raise UsageError(f"--output {folder} holds a training run: give another folder")
    make_folder(folder)
    card = {
        "model": origin.model, "config": model.config_json(), "labels": origin.labels.to_json(),
        "train_size": list(origin.train_size), "metrics": {},
        "recipe": {"pruned": how, "init": origin.identity()},
    }  # fmt: skip
    save_tree({name: half(value) for name, value in model.state_dict().items()}, folder / BEST)
    write_json(folder / BEST_CARD, card)


@dataclass(frozen=True)
class Row:
    """The contents of a folder.

    Attributes:
        folder: its path.
        what: 'whole', 'pruned', 'fine-tuned', 'scratch-E' or 'scratch-B'.
        network: its config as text: equal for equal networks.
        data: the training data.
        epochs: of training; 0 for a network that was only cut.
        gmac: at 1024x2048.
        parameters: used by inference.
        miou: split -> mean IoU.
    """

    folder: Path
    what: str
    network: str
    data: str
    epochs: int
    gmac: float
    parameters: int
    miou: dict[str, float]


SCRATCH = {"steps": "scratch-E", "macs": "scratch-B"}


def read_row(folder: Path) -> Row:
    """Reads the card of a run or of a pruned network; raises WeightsError if there is none that can be read."""
    path = folder / BEST_CARD
    try:
        card = read_json(path)
        recipe, config = card["recipe"], card["config"]
        miou = {name.rpartition("/")[2]: float(found["miou"]) for name, found in card["metrics"].items()}
        network = build_model(card["model"], config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not the card of a run or of a pruned network: {error}") from error
    if recipe.get("from_scratch"):
        what = SCRATCH[recipe["from_scratch"]]
    elif "pruned" in recipe:
        what = "pruned"
    else:
        what = "fine-tuned" if config.get("pruned") else "whole"
    return Row(
        folder, what, json.dumps([card["model"], config], sort_keys=True),
        f"{recipe.get('data')}/{recipe.get('split')}", int(recipe.get("epochs_done", 0)),
        count_macs(network, PAPER_SIZE) / 1e9, count_inference_parameters(network), miou,
    )  # fmt: skip


def missing(rows: list[Row]) -> list[str]:
    """One line per fine-tuned network without a baseline of the same shape and data."""
    lines = []
    for row in rows:
        beside = {other.what for other in rows if (other.network, other.data) == (row.network, row.data)}
        for way, what in SCRATCH.items():
            if row.what == "fine-tuned" and what not in beside:
                lines.append(f"{row.folder} has no {what} beside it: the same rtseg train with --from-scratch {way} "
                             "and another --output says what pruning was worth")  # fmt: skip
    return lines
