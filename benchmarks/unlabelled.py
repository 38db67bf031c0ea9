"""What unlabelled pictures bring: an eighth of CamVid's labels, alone and with the rest of train as `--unlabelled`.

    python benchmarks/unlabelled.py --root CAMVID --runs RUNS --json benchmarks/results/unlabelled.json

Both runs take the same steps from the same seed: SwiftNet on EfficientNet-Lite0 from ImageNet, in a small form that a
CPU trains. Both are scored on val, which neither has seen, and on the rest of train, which the second has seen without
its labels. A run that was stopped goes on.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from cyclopts import App
from rich.console import Console

from rtseg.apps._console import run
from rtseg.apps.export import ExportOptions, load
from rtseg.core.files import write_json
from rtseg.core.sizes import format_size, network_size
from rtseg.datasets import open_data
from rtseg.datasets.base import PairedFiles
from rtseg.live.environment import environment
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.training.config import TrainConfig
from rtseg.training.run import train
from rtseg.training.task import predict

app = App(help=__doc__)
SPLITS = ("val", "without-eighth")


def link_rest(root: Path, folder: Path) -> Path:
    """A folder of links to the pictures of train that `eighth` leaves out."""
    folder.mkdir(parents=True, exist_ok=True)
    rest = open_data("camvid", root, "without-eighth")
    assert isinstance(rest, PairedFiles)
    for pair in rest.pairs:
        link = folder / pair.name
        if not link.is_symlink():
            link.symlink_to(pair.picture.resolve())
    return folder


def measure(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Trains and scores in torch, the way `rtseg eval` does; split -> figures."""
    network = load(ExportOptions(checkpoint=train(config) / "best.safetensors"))
    sets = [open_data("camvid", config.root, split) for split in SPLITS]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, figures = network.model.to(device), {}
    for data in sets:
        size_hw = network_size(data.size_hw, config.train_hw or config.crop_hw, model.size_multiple)
        matrix = ConfusionMatrix(data.labels)
        for sample in data:
            matrix.update(predict(model, sample.image, size_hw, device), sample.labels)
        figures[data.split] = {**matrix.to_json(), "size": format_size(size_hw)}
    return figures


@app.default
def main(
    *, root: Path, runs: Path, json: Path | None = None, epochs: int = 45, batch_size: int = 4,
    train_size: str = "144x192", crop: str = "128x160", seed: int = 0, weight: float = 1.0, confidence: float = 0.95,
    workers: int = 0, precision: Literal["fp32", "bf16"] = "fp32",
) -> None:  # fmt: skip
    """Trains and scores both.

    Args:
        root: CamVid in SegNet's layout.
        runs: Folder of the runs.
        json: Write the figures to this file.
        epochs: Passes over the eighth, of 11 steps each at a batch of 4.
        batch_size: Labelled pictures a step; as many without labels.
        train_size: Of the pictures.
        crop: Of what the network sees.
        seed: Of both runs.
        weight: --unlabelled-weight.
        confidence: --unlabelled-confidence.
        workers: Processes that read pictures.
        precision: fp32, or bf16 on a GPU.
    """
    plain = TrainConfig(
        model="swiftnet", set=("pretrained=imagenet",), data="camvid", root=root, output=runs / "labels",
        split="eighth", holdouts=("val",), keep="last", epochs=epochs, batch_size=batch_size, train_size=train_size,
        crop=crop, scale=(0.7, 1.7), light=0.5, scenes=0.0, lr=2e-3, trunk_factor=0.25, lovasz=1.0, seed=seed,
        validate_every=epochs, checkpoint_every=10, workers=workers, threads=1, precision=precision,
        unlabelled_weight=weight, unlabelled_confidence=confidence,
    )  # fmt: skip
    rest = link_rest(root, runs / "rest")
    results: dict[str, Any] = {"labels": measure(plain)}
    more = {**vars(plain), "output": runs / "labels-and-rest", "unlabelled": rest}
    results["labels and rest"] = measure(TrainConfig(**more))
    gains = {split: results["labels and rest"][split]["miou"] - results["labels"][split]["miou"] for split in SPLITS}
    for split, gain in gains.items():
        before, after = (results[run][split]["miou"] for run in ("labels", "labels and rest"))
        Console().print(f"{split}: mIoU {before:.4f} with labels alone, {after:.4f} with the rest: {gain:+.4f}")
    if json is not None:
        steps = epochs * (len(open_data("camvid", root, "eighth")) // batch_size)
        write_json(json, {"environment": environment(), "recipe": plain.to_json(), "steps": steps,
                          "results": results, "gains": gains})  # fmt: skip


if __name__ == "__main__":
    run(app)
