"""The training and validation steps (a Lightning module)."""

from collections.abc import Callable
from functools import cached_property, partial
from math import isfinite
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from rtseg.core.errors import RtsegError, UsageError
from rtseg.core.sizes import Size, network_size
from rtseg.datasets import DataSet
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.models import SegmentationModel
from rtseg.models.base import Outputs
from rtseg.models.deploy import network_input
from rtseg.pictures.resize import resize_image
from rtseg.pictures.upsample import upsample_labels
from rtseg.training.distill.base import Batch
from rtseg.training.losses import dice_loss, lovasz_loss, segmentation_loss, shrink_labels
from rtseg.training.networks import Networks
from rtseg.training.optimise import make_optimizer, make_schedule, parameter_groups
from rtseg.training.plan import TrainingPlan
from rtseg.training.unlabelled.consistency import consistency_loss
from rtseg.training.watch import StepWatch

_LOOK_EVERY = 20  # steps: every look waits for the device


class SegmentationTask(L.LightningModule):
    """Trains one network; validates it just as `rtseg eval` scores an engine.

    That means one picture at a time: the network sees all pictures of a split at one size, and its labels are compared
    at each picture's own size.

    Args:
        plan: of the run.
        networks: the student and its teachers.
        weights: of the classes, float32 (C,).
    """

    class_weights: Tensor

    def __init__(self, plan: TrainingPlan, networks: Networks, weights: Tensor) -> None:
        super().__init__()
        self.plan, self.model, self.teaching = plan, networks.student, networks.teaching
        self.register_buffer("class_weights", weights, persistent=False)
        self.watch = StepWatch(plan.labels)
        self.scores: dict[str, ConfusionMatrix] = {}

    @cached_property
    def _forward(self) -> Callable[[Tensor], Outputs]:
        """Compiled on first use, after the trainer has copied the module."""
        forward = self.model.forward_train
        return torch.compile(forward) if self.plan.config.compile else forward

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        images, labels = batch[0], batch[1].long()
        config, weights = self.plan.config, self.class_weights
        made = self.teaching.make(images)
        if made is not None:
            images, labels = made.images, made.labels
        label_loss = partial(self._label_loss, labels)
        lesson = Batch(images, labels, self.plan.labels.ignore_index, self.model, self._forward, label_loss,
                       self.teaching.teachers, self.current_epoch / config.epochs)  # fmt: skip
        taught: Tensor = self.teaching(lesson, config.teaching_weight)
        loss = taught + (label_loss(lesson.student) if made is None else made.loss)
        terms = {f"term_{name}": value for name, value in self.teaching.values.items()}
        self.log_dict(terms, on_step=False, on_epoch=True)
        if len(batch) > 2:
            views, known, pasted = batch[2:]
            term, sure = consistency_loss(
                self.model, self._forward, views, known, pasted, weights, config.unlabelled_confidence
            )
            loss = loss + config.unlabelled_weight * term
            self.log("sure_share", sure, on_step=False, on_epoch=True)
        self.watch.update(lesson.student.logits, lesson.truth, loss)
        if self.watch.steps % _LOOK_EVERY == 0:
            self._look()
        self.log("loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def _look(self) -> None:
        """Waits for the device; raises UsageError if a loss was not finite."""
        loss = self.watch.look()
        if not isfinite(loss):
            raise UsageError(f"the loss became {loss} in epoch {self.current_epoch + 1}: start over with a smaller "
                             f"--lr (it was {self.plan.config.lr:g}), or with --precision fp32")  # fmt: skip

    def _label_loss(self, labels: Tensor, outputs: Outputs) -> Tensor:
        """Cross-entropy of the main and the auxiliary outputs, plus the main output's other configured terms."""
        config, ignore, logits = self.plan.config, self.plan.labels.ignore_index, outputs.logits
        coarse = shrink_labels(labels, (logits.shape[-2], logits.shape[-1]))
        compared = coarse if config.coarse_labels else labels
        loss = segmentation_loss(logits, compared, self.class_weights, ignore, config.ohem, config.boundary)
        if config.lovasz:
            loss = loss + config.lovasz * lovasz_loss(logits, labels, ignore)
        if config.dice:
            loss = loss + config.dice * dice_loss(logits, coarse, ignore)
        for output, share in zip(outputs.auxiliary, self.model.auxiliary_weights, strict=True):
            coarse = shrink_labels(labels, (output.shape[-2], output.shape[-1]))
            loss = loss + share * segmentation_loss(output, coarse, self.class_weights, ignore)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["settings"], checkpoint["cycle_from"] = self.plan.settings, self.plan.cycle_from

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.plan.cycle_from != checkpoint.get("cycle_from", 0):
            checkpoint["lr_schedulers"] = []  # an extended run begins a new schedule

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds dropout: different masks per batch and process, the same ones in a resumed run."""
        if isinstance(batch, RtsegError):  # see TrainingSet
            raise batch
        number = batch_idx * self.trainer.world_size + self.trainer.global_rank
        words = np.random.SeedSequence((self.plan.config.seed, self.current_epoch, number)).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def on_train_epoch_start(self) -> None:
        self.watch.reset()
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1  # always score the last weights

    def on_train_epoch_end(self) -> None:
        self._look()
        self.log("train_miou", self.watch.miou, prog_bar=True)
        self.teaching.after_epoch(self.model, self.current_epoch / self.plan.config.epochs)

    def on_validation_start(self) -> None:
        self._look()  # before weights are kept

    def on_validation_epoch_start(self) -> None:
        self.scores = {data.split: ConfusionMatrix(self.plan.labels) for data in self.plan.holdouts}

    def validation_step(self, pair: tuple[int, int], _: int) -> None:
        number, index = pair
        if index < 0:
            return
        data = self.plan.holdouts[number]
        sample = data.sample(index)
        self.scores[data.split].update(self.predict(sample.image, self.input_size(data)), sample.labels)

    @property
    def holdout_miou(self) -> float:
        """Mean of the holdouts' mIoU, by which the best weights are chosen."""
        return sum(matrix.miou for matrix in self.scores.values()) / len(self.scores)

    def sum_scores(self) -> None:
        """Sums the scores of all processes: once per validation, in each process, before scores are read.

        Callbacks call it, because their end-of-validation hooks run before the module's.
        """
        if self.trainer.world_size > 1:
            self.scores = {split: self._summed(matrix) for split, matrix in self.scores.items()}

    def _summed(self, own: ConfusionMatrix) -> ConfusionMatrix:
        """The counts of all processes together."""
        counted = torch.from_numpy(np.append(own.counts, own.frames)).to(self.device)
        total: Tensor = self.all_gather(counted).sum(0).cpu()  # type: ignore[union-attr]
        return ConfusionMatrix(own.labels, total[:-1].reshape(own.counts.shape).numpy(), int(total[-1]))

    def on_validation_epoch_end(self) -> None:
        figures = {f"{split}_miou": matrix.miou for split, matrix in self.scores.items()}
        self.log_dict({**figures, "holdout_miou": self.holdout_miou}, prog_bar=True)

    def input_size(self, data: DataSet) -> Size:
        """The network's input size for a split's pictures, chosen as in `rtseg eval`."""
        return network_size(data.size_hw, self.plan.train_size, self.model.size_multiple)

    def predict(self, image: np.ndarray, size_hw: Size) -> np.ndarray:
        """See `predict`."""
        return predict(self.model, image, size_hw, self.device)

    def configure_optimizers(self) -> Any:
        config = self.plan.config
        optimizer = make_optimizer(config, parameter_groups(config, self, self.model))
        share = 1 - self.plan.cycle_from / config.epochs
        steps = max(1, round(self.trainer.estimated_stepping_batches * share))
        schedule = make_schedule(config, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.no_grad()
def predict(model: SegmentationModel, image: np.ndarray, size_hw: Size, device: torch.device) -> np.ndarray:
    """Labels a picture in fp32, with the same steps as the engines.

    Args:
        model: the network, in evaluation mode on `device`.
        image: uint8 BGR (H, W, 3).
        size_hw: the network's input size.
        device: the device to compute on.

    Returns:
        Labels, uint8 (H, W).
    """
    height, width = image.shape[:2]
    resized = torch.from_numpy(resize_image(image, size_hw)).to(device)[None]
    with torch.autocast(device.type, enabled=False):
        x = network_input(model, resized)
        logits = model(x)[0].float().cpu().contiguous().numpy()
    return upsample_labels(logits, (height, width))
