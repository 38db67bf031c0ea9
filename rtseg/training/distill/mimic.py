"""Matches logits by squared distance (Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", arXiv 1312.6184).

½ ‖z_s - z_t‖², the mean over classes and labelled pixels. Both are first centred per pixel, because an offset shared by
all classes changes no probability. With several teachers, the term is the mean over them.

The paper speeds up training of its wide shallow network by a narrow linear layer, W = UV. Here a network ships as it
is, so that layer belongs to the method: with `bottleneck`, the classifier's input goes through k channels to the
classes, by two 1x1 convolutions without a nonlinearity between them, and their output learns the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rtseg.models import SegmentationModel
from rtseg.models.base import LAST
from rtseg.training.distill.base import LOGITS, Batch, MethodConfig, Teaching, channels_of, mean_of
from rtseg.training.distill.pairs import to_smaller


@dataclass(frozen=True)
class MimicConfig(MethodConfig):
    """`bottleneck` is the number k of linear units; with 0, the network's own logits learn."""

    weight: float = 0.5
    bottleneck: int = 0

    allowed: ClassVar = {"bottleneck": (0, 4096)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return MimicTeaching(channels_of(student, LAST), self.bottleneck, channels_of(student, LOGITS))


class MimicTeaching(Teaching):
    """The loss term; `inputs` is the channel count of the classifier's input."""

    def __init__(self, inputs: int, bottleneck: int, classes: int) -> None:
        super().__init__()
        self.linear = (
            nn.Sequential(nn.Conv2d(inputs, bottleneck, 1, bias=False), nn.Conv2d(bottleneck, classes, 1))
            if bottleneck
            else None
        )

    def forward(self, batch: Batch) -> Tensor:
        outputs = batch.student
        said = outputs.logits if self.linear is None else self.linear(outputs.features[LAST])
        terms = []
        for logits, _ in batch.seen:
            ours, theirs = to_smaller(said.float(), logits.float())
            apart = 0.5 * (centred(ours) - centred(theirs)).square().mean(1)
            terms.append(mean_of(apart, batch.labelled_at(ours)))
        return torch.stack(terms).mean()


def centred(logits: Tensor) -> Tensor:
    """(N, C, h, w), minus the mean over the classes."""
    return logits - logits.mean(1, keepdim=True)
