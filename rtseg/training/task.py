"""The training and validation steps (a Lightning module)."""

from math import isfinite
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from rtseg.core.errors import UsageError
from rtseg.core.sizes import Size, network_size
from rtseg.datasets import DataSet
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.models import SegmentationModel
from rtseg.models.deploy import normalise
from rtseg.pictures.resize import resize_image
from rtseg.pictures.upsample import upsample_labels
from rtseg.training.config import TrainConfig
from rtseg.training.losses import dice_loss, lovasz_loss, segmentation_loss, shrink_labels
from rtseg.training.optimise import make_optimizer, make_schedule, parameter_groups
from rtseg.training.teach import Teaching
from rtseg.training.unlabelled import consistency_loss
from rtseg.training.watch import StepWatch

_LOOK_EVERY = 20  # steps: to look is to wait for the device


class SegmentationTask(L.LightningModule):
    """Trains one network; validates it just as `rtseg eval` scores an engine.

    That is one picture at a time, all of a split resized to one size for the network and compared at their own.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: SegmentationModel,
        weights: Tensor,
        holdouts: list[DataSet],
        teaching: Teaching | None = None,
    ) -> None:
        super().__init__()
        self.config, self.model, self.holdouts, self.teaching = config, model, holdouts, teaching
        self.train_size = config.train_hw or config.crop_hw  # of what crops are cut from; scoring follows it
        self.lineage: dict[str, Any] = {}  # what the weights started from and who taught them, for the card
        self.settings: dict[str, Any] = {}  # what a resumed run must have in common with this one
        self.cycle_from = 0  # epochs after which the schedule begins
        self.labels = holdouts[0].labels
        self.register_buffer("class_weights", weights, persistent=False)
        self.watch = StepWatch(self.labels)
        self.scores: dict[str, ConfusionMatrix] = {}
        self._forward: Any = None  # compiled on first use, after the trainer made its copies of the module

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        images, labels = batch[0], batch[1].long()
        if self._forward is None:
            forward = self.model.forward_train
            self._forward = torch.compile(forward) if self.config.compile else forward
        x = normalise(images, self.model.normalisation).contiguous(memory_format=torch.channels_last)
        logits, *auxiliary = self._forward(x)
        at_logits = shrink_labels(labels, (logits.shape[-2], logits.shape[-1]))
        loss = self._loss(images, logits, labels, at_logits)
        weights, ignore = self.class_weights, self.labels.ignore_index
        for output, share in zip(auxiliary, self.model.auxiliary_weights, strict=True):
            coarse = shrink_labels(labels, (output.shape[-2], output.shape[-1]))
            loss = loss + share * segmentation_loss(output, coarse, weights, ignore)
        if len(batch) > 2:
            term, sure = consistency_loss(
                self.model, self._forward, *batch[2:], weights, self.config.unlabelled_confidence
            )
            loss = loss + self.config.unlabelled_weight * term
            self.log("sure_share", sure, on_step=False, on_epoch=True)
        self.watch.update(logits, at_logits, loss)
        if self.watch.steps % _LOOK_EVERY == 0:
            self._look()
        self.log("loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def _look(self) -> None:
        """Waits for the device; raises UsageError where a loss was not finite."""
        loss = self.watch.look()
        if not isfinite(loss):
            raise UsageError(f"the loss became {loss} in epoch {self.current_epoch + 1}: start over with a smaller "
                             f"--lr (it was {self.config.lr:g}), or with --precision fp32")  # fmt: skip

    def _loss(self, images: Tensor, logits: Tensor, labels: Tensor, coarse: Tensor) -> Tensor:
        """Cross-entropy, and what else the configuration asks for, of the network's main output."""
        config, ignore = self.config, self.labels.ignore_index
        compared = coarse if config.coarse_labels else labels
        loss = segmentation_loss(logits, compared, self.class_weights, ignore, config.ohem, config.boundary)
        if config.lovasz:
            loss = loss + config.lovasz * lovasz_loss(logits, labels, ignore)
        if config.dice:
            loss = loss + config.dice * dice_loss(logits, coarse, ignore)
        if self.teaching is not None:
            loss = loss + config.teaching_weight * self.teaching(images, logits, coarse != ignore)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["settings"], checkpoint["cycle_from"] = self.settings, self.cycle_from

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.cycle_from != checkpoint.get("cycle_from", 0):
            checkpoint["lr_schedulers"] = []  # a finished run is lengthened: its schedule begins again

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout: another mask in each batch of each process, and the same ones in a resumed run."""
        number = batch_idx * self.trainer.world_size + self.trainer.global_rank
        words = np.random.SeedSequence((self.config.seed, self.current_epoch, number)).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def on_train_epoch_start(self) -> None:
        self.watch.reset()
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1  # the last weights are scored whatever the interval

    def on_train_epoch_end(self) -> None:
        self._look()
        self.log("train_miou", self.watch.miou, prog_bar=True)

    def on_validation_start(self) -> None:
        self._look()  # before weights are kept

    def on_validation_epoch_start(self) -> None:
        self.scores = {data.split: ConfusionMatrix(self.labels) for data in self.holdouts}

    def validation_step(self, pair: tuple[int, int], _: int) -> None:
        number, index = pair
        if index < 0:
            return
        data = self.holdouts[number]
        sample = data.sample(index)
        self.scores[data.split].update(self.predict(sample.image, self.input_size(data)), sample.labels)

    @property
    def holdout_miou(self) -> float:
        """Mean of the mIoU of the holdouts: what the best weights are chosen by."""
        return sum(matrix.miou for matrix in self.scores.values()) / len(self.scores)

    def sum_scores(self) -> None:
        """Adds up what all processes have scored: once after a validation and in all of them, before scores are read.

        Callbacks call it, for their end of the validation comes before the module's.
        """
        if self.trainer.world_size > 1:
            for matrix in self.scores.values():
                own = torch.from_numpy(np.append(matrix.counts, matrix.frames)).to(self.device)
                total: Tensor = self.all_gather(own).sum(0).cpu()  # type: ignore[union-attr]
                matrix.counts, matrix.frames = total[:-1].reshape(matrix.counts.shape).numpy(), int(total[-1])

    def on_validation_epoch_end(self) -> None:
        figures = {f"{split}_miou": matrix.miou for split, matrix in self.scores.items()}
        self.log_dict({**figures, "holdout_miou": self.holdout_miou}, prog_bar=True)

    def input_size(self, data: DataSet) -> Size:
        """The network's input size for the pictures of a split, as `rtseg eval` chooses it."""
        return network_size(data.size_hw, self.train_size, self.model.size_multiple)

    @torch.no_grad()
    def predict(self, image: Any, size_hw: Size) -> Any:
        """uint8 BGR (H, W, 3) -> labels uint8 (H, W), in fp32 and along the path that engines take at `size_hw`."""
        height, width = image.shape[:2]
        resized = torch.from_numpy(resize_image(image, size_hw)).to(self.device)[None]
        with torch.autocast(self.device.type, enabled=False):
            x = normalise(resized, self.model.normalisation).contiguous(memory_format=torch.channels_last)
            logits = self.model(x)[0].float().cpu().contiguous().numpy()
        return upsample_labels(logits, (height, width))

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.config, parameter_groups(self.config, self, self.model))
        share = 1 - self.cycle_from / self.config.epochs
        steps = max(1, round(self.trainer.estimated_stepping_batches * share))
        schedule = make_schedule(self.config, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
