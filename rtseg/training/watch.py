"""Figures of a run that are updated at every step, without waiting for the device."""

from math import nan

import numpy as np
import torch
from torch import Tensor

from rtseg.core.labels import LabelSet
from rtseg.metrics.confusion import ConfusionMatrix


class StepWatch:
    """The epoch's training pixels by true and predicted class, and the loss: on the device until `look` is called.

    Attributes:
        steps: since `reset`.
        miou: on the augmented training pictures, as of the last `look`; NaN before the first.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        """Begins an epoch."""
        self.steps, self.miou = 0, nan
        self._counts: Tensor | None = None
        self._loss: Tensor | None = None

    def update(self, logits: Tensor, truth: Tensor, loss: Tensor) -> None:
        """Adds a step without waiting for the device.

        Args:
            logits: (N, C, h, w).
            truth: int64 (N, h, w), with the ignore index.
            loss: a scalar. The first non-finite loss is kept, else the last.
        """
        classes, loss = len(self.labels), loss.detach().float()
        if self._counts is None or self._loss is None:
            self._counts = torch.zeros(classes**2 + 1, dtype=torch.int64, device=logits.device)
            self._loss = torch.zeros_like(loss)
        pairs = truth * classes + logits.detach().argmax(1)
        bins = pairs.masked_fill(truth == self.labels.ignore_index, classes**2).flatten()
        self._counts.scatter_add_(0, bins, torch.ones_like(bins))  # bincount would wait for the largest value
        self._loss = torch.where(self._loss.isfinite(), loss, self._loss)
        self.steps += 1

    def look(self) -> float:
        """Waits for the device; updates `miou` and returns the kept loss (0 before the first step)."""
        if self._counts is None or self._loss is None:
            return 0.0
        classes = len(self.labels)
        counts = self._counts[:-1].cpu().numpy().astype(np.int64).reshape(classes, classes)
        self.miou = ConfusionMatrix(self.labels, counts).miou
        return float(self._loss)
