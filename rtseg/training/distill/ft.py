"""Matches factors of features (paraphrasing complex networks, factor transfer: Kim 2018, arXiv 1802.04977; for
segmentation: He 2019, "Knowledge Adaptation").

‖f_t/‖f_t‖ - f_s/‖f_s‖‖₁, the mean over labelled pixels and factors. f_t is the bottleneck of the paraphraser, a
convolutional auto-encoder of the teacher's features, with `share` times as many channels; f_s is computed from the
student's features by the translator, which has the same form. Vectors are normalised per pixel; the paper normalises
those of whole pictures. The paper trains the paraphraser first; here it learns to reconstruct the features, by squared
distance, in the same steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import Batch, Teaching, Terms, mean_of
from rtseg.training.distill.pairs import LearnedPairs, PairConfig


@dataclass(frozen=True)
class FtConfig(PairConfig):
    """`share` is the number of factors as a share of the teacher's channels, the paper's k."""

    weight: float = 10.0
    share: float = 0.5

    allowed: ClassVar = {"share": (0.01, 4)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        pairs = [self.pairs(student, teacher) for teacher in teachers]
        layers = [Factors(p.inputs, p.outputs, max(1, round(self.share * p.outputs))) for group in pairs for p in group]
        return FtTeaching(pairs, layers)


class Factors(nn.Module):
    """Paraphraser (`encode`, `decode`) and translator of a pair."""

    def __init__(self, inputs: int, outputs: int, factors: int) -> None:
        super().__init__()
        self.encode, self.decode = two_convolutions(outputs, factors), two_convolutions(factors, outputs)
        self.translate = two_convolutions(inputs, factors)


def two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    """3x3, with a leaky ReLU in between."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(outputs, outputs, 3, padding=1)
    )


class FtTeaching(LearnedPairs):
    """The loss term; its layers are `Factors` for each pair."""

    def term(self, layer: nn.Module, ours: Tensor, theirs: Tensor, batch: Batch) -> Terms:
        assert isinstance(layer, Factors)
        counted, factors = batch.labelled_at(ours), layer.encode(theirs)
        rebuilt = mean_of((layer.decode(factors) - theirs).square().mean(1), counted)
        return Terms(mean_of(factor_distance(layer.translate(ours), factors.detach()), counted), rebuilt)


def factor_distance(one: Tensor, other: Tensor) -> Tensor:
    """(N, K, h, w) twice -> (N, h, w)."""
    return (F.normalize(one, dim=1) - F.normalize(other, dim=1)).abs().mean(1)
