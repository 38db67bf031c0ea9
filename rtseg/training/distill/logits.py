"""Softened probabilities of every pixel (Hinton 2015, arXiv 1503.02531; on segmentation, pixel-wise: Liu 2019,
arXiv 1903.04197).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.models.base import Outputs
from rtseg.training.distill.base import MethodConfig, Teaching, mean_of
from rtseg.training.distill.teachers import Seen, Teachers


@dataclass(frozen=True)
class LogitsConfig(MethodConfig):
    """`temperature` softens the classes' probabilities."""

    temperature: float = 2.0

    def build(self, student: SegmentationModel, teachers: Teachers) -> Teaching:
        return LogitTeaching(teachers, self.temperature)


class LogitTeaching(Teaching):
    """The term alone."""

    def __init__(self, teachers: Teachers, temperature: float) -> None:
        super().__init__(teachers)
        self.temperature = temperature

    def forward(self, images: Tensor, student: Outputs, labelled: Tensor) -> Tensor:
        return logit_loss(student.logits, self.teachers.see(images), labelled, self.temperature)


def logit_loss(logits: Tensor, seen: Sequence[Seen], labelled: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student from the mean of the teachers' probabilities.

    Times the temperature squared, so that its gradients keep their size.

    Args:
        logits: the student's, (N, C, h, w).
        seen: what each teacher says, of any size.
        labelled: bool (N, h, w), the pixels that count.
        temperature: what logits are divided by.
    """
    taught = _probabilities(seen, logits.shape[-2:], temperature)
    said = (logits.float() / temperature).log_softmax(1)
    return temperature**2 * mean_of(F.kl_div(said, taught, reduction="none").sum(1), labelled)


def _probabilities(seen: Sequence[Seen], size: torch.Size, temperature: float) -> Tensor:
    """The ensemble's mean of softened probabilities, (N, C, h, w) of `size`."""
    total = torch.zeros((), device=seen[0][0].device)
    for logits, _ in seen:
        logits = logits.float()
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        total = total + (logits / temperature).softmax(1)
    return total / len(seen)
