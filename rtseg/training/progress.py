"""The progress bar of a run."""

import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class RunProgress(RichProgressBar):
    """The bar of the epoch, with the time left for the whole run, estimated from the pace since it was started."""

    def __init__(self) -> None:
        super().__init__()
        self._started, self._first_step = time.monotonic(), 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)  # the number of the curves folder
        seconds, steps = time.monotonic() - self._started, trainer.global_step - self._first_step
        left = time_left(seconds, steps, int(trainer.estimated_stepping_batches) - trainer.global_step)
        return {**metrics, **({"run ends in": left} if left else {})}

    def _get_train_description(self, current_epoch: int) -> str:
        """'Epoch 1/100' (Lightning counts from 0), as wide as the label of the validation bar."""
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}".ljust(len(self.validation_description))


def time_left(seconds: float, steps: int, to_go: int) -> str:
    """'1:02:03' for `to_go` steps at the pace of `steps` in `seconds`; empty if there is no pace yet."""
    return str(timedelta(seconds=round(seconds / steps * to_go))) if steps else ""
