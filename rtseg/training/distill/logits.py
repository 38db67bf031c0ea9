"""Matches the softened probabilities of every pixel (Hinton 2015, arXiv 1503.02531; for segmentation, pixel-wise: Liu
2019, arXiv 1903.04197).

T² KL(p_t ‖ p_s), the mean over labelled pixels, with p = softmax(z / T); p_t is the mean over the teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import Batch, MethodConfig, Teaching, mean_of
from rtseg.training.distill.teachers import Seen, mean_probabilities


@dataclass(frozen=True)
class LogitsConfig(MethodConfig):
    """`temperature` softens the probabilities."""

    temperature: float = 2.0

    allowed: ClassVar = {"temperature": (0.1, 100)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return LogitTeaching(self.temperature)


class LogitTeaching(Teaching):
    """The loss term."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, batch: Batch) -> Tensor:
        return logit_loss(batch.student.logits, batch.seen, batch.labelled, self.temperature)


def logit_loss(logits: Tensor, seen: Sequence[Seen], labelled: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student from the mean of the teachers' probabilities.

    It is multiplied by the temperature squared, so that its gradients keep their size.

    Args:
        logits: the student's, (N, C, h, w).
        seen: each teacher's outputs, of any size.
        labelled: bool (N, h, w), the pixels that count.
        temperature: divides the logits.
    """
    taught = mean_probabilities(seen, logits.shape[-2:], temperature)
    return divergence(taught, logits, labelled, temperature)


def divergence(taught: Tensor, logits: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """T² KL(taught ‖ softmax(logits / T)): the mean over the counted pixels.

    Args:
        taught: probabilities, float32 (N, C, h, w), already softened.
        logits: (N, C, h, w).
        counted: bool (N, h, w).
        temperature: T.
    """
    said = (logits.float() / temperature).log_softmax(1)
    return temperature**2 * mean_of(F.kl_div(said, taught, reduction="none").sum(1), counted)
