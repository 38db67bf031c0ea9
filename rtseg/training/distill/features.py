"""Logits, and what the classifiers see: the student's features, through a 1x1 convolution, approach the teachers'
(FitNets, Romero 2015, arXiv 1412.6550; here both are compared as unit vectors, so that no network's scale counts).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models import SegmentationModel
from rtseg.models.base import LAST, Outputs
from rtseg.training.distill.base import MethodConfig, Teaching, channels_of, mean_of
from rtseg.training.distill.logits import logit_loss
from rtseg.training.distill.teachers import Teachers
from rtseg.training.losses import shrink_labels


@dataclass(frozen=True)
class FeaturesConfig(MethodConfig):
    """`temperature` softens the classes' probabilities."""

    temperature: float = 2.0

    def build(self, student: SegmentationModel, teachers: Teachers) -> Teaching:
        inputs = channels_of(student, LAST)
        outputs = [channels_of(teacher, LAST) for teacher in teachers.networks]
        return FeatureTeaching(teachers, self.temperature, inputs, outputs)


class FeatureTeaching(Teaching):
    """The term, with one adapter for each teacher.

    Args:
        teachers: give the features to approach.
        temperature: of the logits' part.
        inputs: channels of the student's features.
        outputs: channels of each teacher's.
    """

    def __init__(self, teachers: Teachers, temperature: float, inputs: int, outputs: list[int]) -> None:
        super().__init__(teachers)
        self.temperature = temperature
        self.adapters = nn.ModuleList(nn.Conv2d(inputs, channels, 1) for channels in outputs)

    def forward(self, images: Tensor, student: Outputs, labelled: Tensor) -> Tensor:
        features = student.features[LAST].float()  # (N, ·, h, w)
        seen = self.teachers.see(images)
        total = logit_loss(student.logits, seen, labelled, self.temperature)
        counted = shrink_labels(labelled.byte(), (features.shape[-2], features.shape[-1])).bool()
        for adapter, (_, theirs) in zip(self.adapters, seen, strict=True):
            taught = F.interpolate(theirs[LAST].float(), features.shape[-2:], mode="bilinear")
            apart = 1 - F.cosine_similarity(adapter(features), taught, dim=1)
            total = total + mean_of(apart, counted) / len(self.adapters)
        return total
