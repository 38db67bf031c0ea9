"""The running mean of the weights, which a run validates and keeps."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn


class Averaging(WeightAveraging):
    """An exponential moving average whose decay grows with the number of steps.

    With a fixed decay of 0.995, the mean of a fifty-step run would mostly be the initial weights. So the decay after
    step n is (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage, until it reaches `decay`.

    Args:
        decay: final decay, in 0..1.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay, self._steps = decay, 0
        self.since = 0  # optimizer steps before the mean began

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the network moves there later: the mean would stay on the CPU
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:  # compared at every step, so it must not be read from a GPU
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is None:
            return False
        self._steps = step_idx + 1 - self.since
        return True

    def averaged(self) -> nn.Module:
        """The copy of the module's network that holds the mean."""
        assert self._average_model is not None
        network = self._average_model.module.model
        assert isinstance(network, nn.Module)
        return network

    def begin_again(self, pl_module: L.LightningModule, step: int) -> None:
        """Restarts the mean from the current weights, which are those of optimizer step `step`."""
        assert self._average_model is not None
        self._average_model.module.load_state_dict(pl_module.state_dict())
        self.since = step

    def _average(self, averaged: Any, current: Any, _: Tensor) -> None:
        """Moves tensors of one device and dtype towards the current ones."""
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay_after(self._steps, self.decay))
        else:
            torch._foreach_copy_(averaged, current)


def decay_after(steps: int, decay: float) -> float:
    """The weight of the old mean at optimizer step `steps`, counted from 1."""
    return min(decay, (1 + steps) / (10 + steps))
