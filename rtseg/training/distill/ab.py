"""Matches which neurons are active (activation boundaries: Heo 2019, arXiv 1811.03233).

ρ(T) max(0, μ - r(S))² + (1 - ρ(T)) max(0, μ + r(S))², the mean over channels and labelled pixels: where the teacher's
neuron is active (ρ = 1 above 0), the student's must exceed the margin μ; elsewhere it must be below -μ. r is a 1x1
convolution, whose output counts as the activation before its ReLU; a teacher's activations behind a ReLU are nonzero
exactly where they were above 0 before it. The larger map is averaged to the smaller one's size. The paper trains with
this first: `ab:until=0.3,logits`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rtseg.training.distill.base import Batch, mean_of
from rtseg.training.distill.pairs import PairConfig


@dataclass(frozen=True)
class AbConfig(PairConfig):
    """`margin` is the paper's μ."""

    margin: float = 1.0

    adapted: ClassVar[bool] = True
    allowed: ClassVar = {"margin": (0.001, 100)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        missed = torch.where(theirs > 0, self.margin - ours, self.margin + ours).clamp(min=0)
        return mean_of(missed.square().mean(1), batch.labelled_at(ours))
