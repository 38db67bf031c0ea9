"""Matches logits, and the features that classifiers read: a 1x1 convolution of the student's approaches the teachers'
(FitNets, Romero 2015, arXiv 1412.6550; here as unit vectors, so that no network's scale matters).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models import SegmentationModel
from rtseg.models.base import LAST
from rtseg.training.distill.base import Batch, MethodConfig, Teaching, channels_of, mean_of
from rtseg.training.distill.logits import logit_loss


@dataclass(frozen=True)
class FeaturesConfig(MethodConfig):
    """`temperature` softens the probabilities."""

    temperature: float = 2.0

    allowed: ClassVar = {"temperature": (0.1, 100)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        inputs = channels_of(student, LAST)
        return FeatureTeaching(self.temperature, inputs, [channels_of(teacher, LAST) for teacher in teachers])


class FeatureTeaching(Teaching):
    """The loss term, with one adapter per teacher.

    Args:
        temperature: of the logits' part.
        inputs: channels of the student's features.
        outputs: channels of each teacher's features.
    """

    def __init__(self, temperature: float, inputs: int, outputs: list[int]) -> None:
        super().__init__()
        self.temperature = temperature
        self.adapters = nn.ModuleList(nn.Conv2d(inputs, channels, 1) for channels in outputs)

    def forward(self, batch: Batch) -> Tensor:
        features = batch.student.features[LAST].float()  # (N, ·, h, w)
        total = logit_loss(batch.student.logits, batch.seen, batch.labelled, self.temperature)
        counted = batch.labelled_at(features)
        for adapter, (_, theirs) in zip(self.adapters, batch.seen, strict=True):
            taught = F.interpolate(theirs[LAST].float(), features.shape[-2:], mode="bilinear")
            apart = 1 - F.cosine_similarity(adapter(features), taught, dim=1)
            total = total + mean_of(apart, counted) / len(self.adapters)
        return total
