"""The callback of a sparse run: starts its phases and holds masked weights at zero."""

import logging
from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from rtseg.training.averaging import Averaging
from rtseg.training.sparse import Phase
from rtseg.training.sparse.masks import Masks, apply, by_magnitude, mask_gradients
from rtseg.training.task import SegmentationTask

log = logging.getLogger(__name__)


class SparseTraining(L.Callback):
    """Goes through the phases of a run. Its checkpoint holds masks and early weights, so a stopped run can resume.

    Masked weights are zero after every step, in the running mean as well: their gradients are zeroed before the
    optimizer sees them, and the weights again after it, because of its momentum and weight decay. Must come before the
    averaging among the callbacks.

    Args:
        phases: of the run.
        averaging: its running mean is masked too.
    """

    def __init__(self, phases: tuple[Phase, ...], averaging: Averaging) -> None:
        self.phases, self.averaging = phases, averaging
        self.masks: Masks = {}
        self.early: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks, "early": self.early, "since": self.averaging.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.masks, self.early = state_dict["masks"], state_dict["early"]
        self.averaging.since = state_dict["since"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.masks = {name: mask.to(pl_module.device) for name, mask in self.masks.items()}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationTask)
        if trainer.current_epoch == 1 and any(phase.rewinds for phase in self.phases):
            self.early = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
        for phase in self.phases[1:]:
            if phase.epoch == trainer.current_epoch:
                self._begin(phase, trainer, pl_module)
        apply(self.masks, pl_module.model)  # grafting changes weights between epochs

    def _begin(self, phase: Phase, trainer: L.Trainer, task: SegmentationTask) -> None:
        self.masks = by_magnitude(task.model, phase.sparsity, self.masks) if phase.sparsity else {}
        if phase.rewinds:
            task.load_state_dict(self.early)
            for optimizer in trainer.optimizers:
                assert isinstance(optimizer, Optimizer)
                optimizer.state.clear()
        apply(self.masks, task.model)
        if phase.cycle:
            self.averaging.begin_again(task, trainer.global_step)
        else:
            apply(self.masks, self.averaging.averaged())
        log.info("epoch %d: %.1f%% of the weights are held at zero%s", phase.epoch + 1, 100 * phase.sparsity,
                 ", the others are back where they were after the first epoch" if phase.rewinds else "")  # fmt: skip

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:  # fmt: skip
        assert isinstance(pl_module, SegmentationTask)
        mask_gradients(self.masks, pl_module.model)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SegmentationTask)
        apply(self.masks, pl_module.model)
