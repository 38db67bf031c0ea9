"""The report of a finished run: a folder with curves, confusion, the best and the worst frames, and the card."""

import csv
import shutil
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rtseg.core.files import atomic_path
from rtseg.core.zoo import BEST, BEST_CARD
from rtseg.datasets import DataSet, Sample
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.models.weights import restore
from rtseg.pictures.comparison import stacked
from rtseg.sinks.base import make_folder, write_picture
from rtseg.training.checkpoint import load_tree
from rtseg.training.report import draw_confusion, drawn
from rtseg.training.task import SegmentationTask

_FRAMES = 4  # best, and as many worst
_APART = 0.3  # mIoU on training pictures minus mIoU on holdouts; CamVid's runs from scratch end at 0.0 to 0.2


def write_report(folder: Path, task: SegmentationTask) -> Path:
    """Scores the run's best weights frame by frame and writes `folder/report`.

    Args:
        folder: of the run, with `best.safetensors`, `best.json` and `curves`.
        task: the trained task; the best weights are loaded into its network.

    Raises:
        WeightsError: the best weights are damaged.
        OutputError: a picture cannot be written.
    """
    report = folder / "report"
    make_folder(report)
    best = folder / BEST
    weights = {name: value.float() for name, value in load_tree(best).items()}
    restore(task.model, weights, str(best))
    task.eval()
    for data in task.plan.holdouts:
        total, scored = _score(task, data)
        draw_confusion(total, f"{data.split}, best weights", report / f"confusion_{data.split}.png")
        for name, indices in (("worst", scored[:_FRAMES]), ("best", scored[-_FRAMES:][::-1])):
            rows = [drawn(data, index, task) for index in indices]
            if not rows:
                continue
            write_picture(report / f"{name}_{data.split}.png", stacked(rows))
    draw_curves(read_curves(folder), report / "curves.png")
    with atomic_path(report / "card.json") as part:
        shutil.copyfile(folder / BEST_CARD, part)
    return report


def _score(task: SegmentationTask, data: DataSet) -> tuple[ConfusionMatrix, list[int]]:
    """Scores the whole split; also returns its labelled frames in ascending order of their mIoU."""
    total, own = ConfusionMatrix(data.labels), dict[int, float]()
    for index in range(len(data)):
        sample: Sample = data.sample(index)
        labels = task.predict(sample.image, task.input_size(data))
        frame = ConfusionMatrix(data.labels)
        for matrix in (total, frame):
            matrix.update(labels, sample.labels)
        if not np.isnan(frame.miou):
            own[index] = frame.miou
    return total, sorted(own, key=own.__getitem__)


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Figure -> (epoch, value) over all starts of the run; epochs that a later start repeated are replaced."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    numbers = {path: path.parent.name.removeprefix("version_") for path in folder.glob("curves/version_*/metrics.csv")}
    starts = [path for path, number in numbers.items() if number.isdecimal()]  # ignores copies with other names
    for path in sorted(starts, key=lambda path: int(numbers[path])):
        with path.open(encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                with suppress(KeyError, TypeError, ValueError):  # a line cut short by a full disk
                    epoch = int(row["epoch"]) + 1
                    values = {name: float(value) for name, value in row.items() if value}
                    for name in values.keys() - {"epoch", "step"}:
                        found[name][epoch] = values[name]
    return {name: sorted(values.items()) for name, values in found.items()}


def parting(curves: dict[str, list[tuple[int, float]]]) -> str | None:
    """A warning if a run scores far better on its training pictures than on the holdouts, else None.

    Args:
        curves: from `read_curves`.
    """
    trained, held_out = (curves[name][-1][1] if curves.get(name) else 0.0 for name in ("train_miou", "holdout_miou"))
    if trained - held_out < _APART:
        return None
    return (f"the network knows its training pictures (mIoU {trained:.2f}) far better than those held out "
            f"({held_out:.2f}): more pictures, --init from a trained network, --light, or other holdouts "
            "if these show something else")  # fmt: skip


def draw_curves(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Draws the loss over the epochs, beside the mIoU on training pictures and holdouts."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, 2)
    for name, points in curves.items():
        side = axes[0] if name == "loss" or name.startswith("term_") else axes[1]
        side.plot(*zip(*points, strict=True), marker="." if len(points) < 60 else None, label=name)
    axes[0].set(xlabel="epoch", ylabel="loss")
    axes[1].set(xlabel="epoch", ylabel="mIoU (train: augmented pictures)")
    axes[1].legend()
    with atomic_path(path) as part:
        figure.savefig(part)
