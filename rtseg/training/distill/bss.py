"""Matches probabilities on pictures moved towards the teacher's class borders (knowledge distillation with adversarial
samples supporting decision boundary: Heo 2019, arXiv 1805.05532).

A picture moves `steps` times by x <- x - rate (L + ε) ∇L/‖∇L‖². L is the teacher's margin log p_b - log p_k between a
pixel's true class b and the class k that was next likely at the start; it is the mean over the labelled pixels where
teacher and student are right and the border is not crossed yet. The term is T² KL(p_t ‖ p_s) over those pixels of the
moved picture. The paper moves a classifier's picture towards one random class for all; here each pixel has its own.
Costs `steps` passes of the teacher with gradients, one without, and one of the student.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import Batch, MethodConfig, Teaching
from rtseg.training.distill.logits import divergence
from rtseg.training.distill.teachers import Teachers, mean_probabilities

_BEYOND = 1e-2  # the paper's ε: how far past the border


@dataclass(frozen=True)
class BssConfig(MethodConfig):
    """`steps` and `rate` move the pictures; `temperature` softens the probabilities (3 in the paper)."""

    steps: int = 3
    rate: float = 0.3
    temperature: float = 2.0

    allowed: ClassVar = {"steps": (1, 20), "rate": (0.001, 2), "temperature": (0.1, 100)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return BssTeaching(self)


class BssTeaching(Teaching):
    """The loss term."""

    def __init__(self, config: BssConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: Batch) -> Tensor:
        logits = batch.student.logits
        probabilities = mean_probabilities(batch.seen, logits.shape[-2:])
        truth = batch.truth.masked_fill(~batch.labelled, 0)
        counted = batch.labelled & (probabilities.argmax(1) == truth) & (logits.argmax(1) == truth)
        others = probabilities.scatter(1, truth[:, None], -1.0)
        moved = self._move(batch, truth, others.argmax(1), counted)
        taught = mean_probabilities(batch.teachers.see(moved), logits.shape[-2:], self.config.temperature)
        return divergence(taught, batch.look(moved).logits, counted, self.config.temperature)

    def _move(self, batch: Batch, truth: Tensor, towards: Tensor, counted: Tensor) -> Tensor:
        """Moves the pictures, as float32, towards each pixel's border to the class `towards`, int64 (N, h, w)."""
        x = batch.images.float()
        for _ in range(self.config.steps):
            margin, slope = margins(batch.teachers, x, truth, towards, counted)
            reach = (margin + _BEYOND) / slope.square().sum((1, 2, 3)).clamp(min=1e-12)
            x = (x - self.config.rate * (margin > 0).float().mul(reach)[:, None, None, None] * slope).clamp(0, 255)
        return x


def margins(
    teachers: Teachers, images: Tensor, truth: Tensor, towards: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor]:
    """How far each picture's counted pixels are inside their class, (N,), and the gradient of that, (N, H, W, 3)."""
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        x = images.detach().requires_grad_()
        said = mean_probabilities(teachers.feel(x), truth.shape[-2:]).clamp(min=1e-12).log()
        inside, outside = (said.gather(1, index[:, None])[:, 0] for index in (truth, towards))
        margin = (F.relu(inside - outside) * counted).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)
        (slope,) = torch.autograd.grad(margin.sum(), x)
    return margin.detach(), slope
