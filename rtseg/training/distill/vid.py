"""Matches features, with a learned variance per channel (variational information distillation: Ahn 2019, arXiv
1904.05835).

Σ_c log σ_c + (F_t - μ(F_s))²/(2 σ_c²), the mean over channels and labelled pixels: the negative log likelihood of the
teacher's features, and so a bound on their mutual information with the student's. μ is two 1x1 convolutions with a ReLU
in between; σ_c² = softplus(α_c) + 1e-3, one per channel, starts at the paper's 5. The term may fall below 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1, log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import Batch, Teaching, mean_of
from rtseg.training.distill.pairs import LearnedPairs, PairConfig

_LEAST, _AT_FIRST = 1e-3, 5.0


@dataclass(frozen=True)
class VidConfig(PairConfig):
    """See `PairConfig`."""

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        pairs = [self.pairs(student, teacher) for teacher in teachers]
        return VidTeaching(pairs, [Gaussian(pair.inputs, pair.outputs) for group in pairs for pair in group])


class Gaussian(nn.Module):
    """Predicts the teacher's features from the student's: a mean per pixel, a variance per channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU(), nn.Conv2d(outputs, outputs, 1))
        self.alpha = nn.Parameter(torch.full((outputs,), log(expm1(_AT_FIRST - _LEAST))))

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """(N, ·, h, w) twice -> negative log likelihood without its constant, the mean over channels: (N, h, w)."""
        variance = (F.softplus(self.alpha) + _LEAST)[:, None, None]
        apart: Tensor = theirs - self.mean(ours)
        return (0.5 * variance.log() + apart.square() / (2 * variance)).mean(1)


class VidTeaching(LearnedPairs):
    """The loss term; its layers are a `Gaussian` for each pair."""

    def term(self, layer: nn.Module, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return mean_of(layer(ours, theirs), batch.labelled_at(ours))
