"""What a run writes after each validation: the best weights, sample pictures, a confusion matrix."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint

from rtseg.core.files import atomic_path, write_json
from rtseg.core.zoo import BEST, BEST_CARD
from rtseg.datasets import DataSet
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.pictures.comparison import beside_truth, stacked
from rtseg.sinks.base import write_picture
from rtseg.training.begun import lost_best
from rtseg.training.checkpoint import save_tree
from rtseg.training.sparse import phase_at, phases_of
from rtseg.training.sparse.masks import zero_share
from rtseg.training.task import SegmentationTask

log = logging.getLogger(__name__)


class KeepBest(L.Callback):
    """Writes `best.safetensors` (averaged weights, fp16) and `best.json` when the holdouts' mean mIoU improves.

    With `last`, it writes them after every validation, so those of the last epoch stay, whatever they score. Each phase
    of a sparse run starts over, so the best of the last phase stay.
    """

    def __init__(self, folder: Path, last: bool = False) -> None:
        self.folder, self.last, self.best, self.phase = folder, last, -1.0, 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "phase": self.phase}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.phase = state_dict["best"], state_dict.get("phase", 0)
        if self.best >= 0 and (why := lost_best(self.folder)) is not None:
            log.warning(
                "the run's best weights are lost, and the best of the epochs from here on will be kept: %s", why
            )
            self.best = -1.0

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationTask)
        pl_module.sum_scores()
        phases = phases_of(pl_module.plan.config)
        before, self.phase = self.phase, phase_at(phases, trainer.current_epoch)
        if self.phase != before:
            self.best = -1.0
        if not (self.last or pl_module.holdout_miou > self.best) or not trainer.is_global_zero:
            return
        self.best = pl_module.holdout_miou
        model = pl_module.model
        state = {name: half(value) for name, value in model.state_dict().items()}
        plan = pl_module.plan
        metrics = {f"{plan.config.data}/{split}": m.to_json() for split, m in pl_module.scores.items()}
        done = {"epochs_done": trainer.current_epoch + 1, "torch": torch.__version__,
                **({"zero_weights": round(zero_share(model, state), 4)} if phases else {})}  # fmt: skip
        recipe = {**plan.config.to_json(), **done, **plan.lineage}
        card = {"model": plan.config.model, "config": model.config_json(), "labels": plan.labels.to_json(),
                "train_size": list(plan.train_size), "metrics": metrics, "recipe": recipe}  # fmt: skip
        save_tree(state, self.folder / BEST)
        write_json(self.folder / BEST_CARD, card)


def half(value: torch.Tensor) -> torch.Tensor:
    """fp16 for convolution weights, which are nearly all of the bytes; batch norm's variances may not fit in it."""
    return value.half() if value.ndim > 1 else value


class KeepLast(Checkpoint):
    """Writes `last.ckpt`, from which a stopped run resumes, every `every` epochs and after the last one."""

    def __init__(self, folder: Path, every: int = 1) -> None:
        self.folder, self.every = folder, every

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done % self.every == 0 or done == trainer.max_epochs:
            trainer.save_checkpoint(self.folder / "last.ckpt")


class Pictures(L.Callback):
    """Writes `samples_EPOCH.png` and `confusion_SPLIT.png`.

    The samples show picture, truth and prediction of two frames of each holdout, or fewer if it has only one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationTask)
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        picked = [(data, index) for data in pl_module.plan.holdouts
                  for index in sorted({len(data) // 4, 3 * len(data) // 4})]  # fmt: skip
        rows = [drawn(data, index, pl_module) for data, index in picked]
        write_picture(self.folder / f"samples_{epoch:04d}.png", stacked(rows))
        for split, matrix in pl_module.scores.items():
            draw_confusion(matrix, f"{split}, epoch {epoch}", self.folder / f"confusion_{split}.png")


def drawn(data: DataSet, index: int, task: SegmentationTask) -> np.ndarray:
    """A sample's picture, truth and prediction side by side: uint8 BGR (H, 3 W, 3)."""
    sample = data.sample(index)
    predicted = task.predict(sample.image, task.input_size(data))
    return beside_truth(sample.image, sample.labels, predicted, data.labels)


def draw_confusion(matrix: ConfusionMatrix, title: str, path: Path) -> None:
    """Draws the confusion matrix, each true class scaled to sum to 1, with IoUs beside the names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from rtseg.training.fonts import lettered

    names, family = lettered(matrix.labels.names)
    rows = [f"{name} {iou:.2f}" for name, iou in zip(names, matrix.iou, strict=True)]
    shares = matrix.counts / np.maximum(1, matrix.counts.sum(1, keepdims=True))
    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=f"{title}: mIoU {matrix.miou:.4f}", xlabel="predicted", ylabel="true, with IoU")
    written: dict[str, Any] = {"family": family, "parse_math": False}  # a $ in a name stays a $
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", **written)
    axes.set_yticks(range(len(names)), rows, **written)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.01:
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", size=7, color="w" if share > 0.5 else "k")
    with atomic_path(path) as part:
        figure.savefig(part)
