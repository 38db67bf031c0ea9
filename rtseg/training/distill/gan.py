"""Trains the student until a discriminator cannot tell its labels from the teacher's (Xu 2018, "Training Shallow and
Thin Networks for Acceleration via Knowledge Distillation with Conditional Adversarial Networks", arXiv 1709.00513; for
segmentation, holistic: Liu 2019, arXiv 1903.04197).

The student's term is the mean of -log D(x, p_s), the discriminator's loss that of -log D(x, p_t) - log(1 - D(x, p_s)).
D sees the picture and the class probabilities, and judges patch by patch. The term treats D as fixed, D's loss
treats the student as fixed, so one step of the run's optimizer serves both. Probabilities finer than stride 4 are
averaged to it. The discriminator is a plain one with four convolutions; SKD's is a Wasserstein one with self-attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import LOGITS, Batch, MethodConfig, Teaching, Terms, channels_of
from rtseg.training.distill.teachers import mean_probabilities

_FINEST = 4


@dataclass(frozen=True)
class GanConfig(MethodConfig):
    """`width` is the channel count of the discriminator's first layer."""

    weight: float = 0.1
    width: int = 32

    allowed: ClassVar = {"width": (1, 512)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return GanTeaching(Discriminator(channels_of(student, LOGITS), self.width))


class Discriminator(nn.Sequential):
    """(N, 3 + classes, h, w) -> scores (N, 1, ·, ·): above 0 if they seem to be the teacher's."""

    def __init__(self, classes: int, width: int) -> None:
        layers: list[nn.Module] = []
        inputs = 3 + classes
        for outputs in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2)]
            inputs = outputs
        super().__init__(*layers, nn.Conv2d(inputs, 1, 1))


class GanTeaching(Teaching):
    """The student's term and the discriminator's loss."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, batch: Batch) -> Terms:
        height, width = batch.images.shape[1:3]
        found = batch.student.logits.shape[-2:]
        size = (min(found[0], -(-height // _FINEST)), min(found[1], -(-width // _FINEST)))
        said = F.adaptive_avg_pool2d(batch.student.logits.float().softmax(1), size)
        taught = F.adaptive_avg_pool2d(mean_probabilities(batch.seen, found), size)
        picture = F.adaptive_avg_pool2d(batch.images.permute(0, 3, 1, 2).float() / 127.5 - 1, size)
        there = F.adaptive_avg_pool2d(batch.labelled[:, None].float(), size)

        def condition(probabilities: Tensor) -> Tensor:
            return torch.cat([picture, probabilities], 1) * there  # hides unlabelled pixels

        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        judged = torch.func.functional_call(self.discriminator, fixed, (condition(said),))
        true, false = self.discriminator(condition(taught)), self.discriminator(condition(said.detach()))
        own = F.softplus(-true.float()).mean() + F.softplus(false.float()).mean()
        return Terms(F.softplus(-judged.float()).mean(), own)
