"""Training runs of a few steps on a few pictures."""

import csv
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from rtseg.core.files import write_json
from rtseg.core.labels import CAMVID11
from rtseg.models import SegmentationModel
from rtseg.training.checkpoint import save_tree
from rtseg.training.config import TrainConfig
from rtseg.training.report import half
from rtseg.training.run import train
from rtseg.training.task import SegmentationTask

TINY = {
    "model": "enet", "crop": "32x32", "batch_size": 2, "scenes": 0.0, "workers": 0, "validate_every": 1,
    "precision": "fp32", "threads": 1,
}  # fmt: skip


def config(root: Path, output: Path, **changes: object) -> TrainConfig:
    return TrainConfig(root=root, output=output, **{**TINY, **changes})  # type: ignore[arg-type]


def finished(model: SegmentationModel, name: str, folder: Path) -> str:
    """`best.safetensors` with its card, as left by a run of `name`: no export, which takes far longer."""
    card = {"model": name, "config": model.config_json(), "labels": CAMVID11.to_json(), "train_size": [360, 480],
            "metrics": {}, "recipe": {}}  # fmt: skip
    save_tree({key: half(value) for key, value in model.state_dict().items()}, folder / "best.safetensors")
    write_json(folder / "best.json", card)
    return str(folder / "best.safetensors")


def losses(folder: Path) -> list[float]:
    found: dict[int, float] = {}
    for path in sorted(folder.glob("curves/version_*/metrics.csv")):
        with path.open() as file:
            found.update({int(row["epoch"]): float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")})
    return [found[epoch] for epoch in sorted(found)]


def stopped(given: TrainConfig, monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int) -> None:
    """Trains until Ctrl+C arrives instead of a batch of an epoch, both counted from 0."""
    plain = SegmentationTask.training_step

    def step_or_stop(task: SegmentationTask, pair: Any, number: int) -> Any:
        if (task.current_epoch, number) == (epoch, batch):
            raise KeyboardInterrupt
        return plain(task, pair, number)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(given)


SCRIPT = """
import sys, json
from pathlib import Path
from rtseg.training.config import TrainConfig
from rtseg.training.run import train
fields = json.loads(sys.argv[1])
fields["root"], fields["output"] = Path(fields["root"]), Path(fields["output"])
train(TrainConfig(**fields))
"""


def wait_for_file(path: Path, process: subprocess.Popen[Any]) -> None:
    while not path.is_file():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.005)
