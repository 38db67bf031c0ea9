"""Makes two distortions of a picture agree (data-distortion guided self-distillation: Xu and Liu 2019, AAAI). No
teacher.

CE(p(x₂)) + KL(p(x₁) ‖ p(x₂)) + KL(p(x₂) ‖ p(x₁)) + `discrepancy` MMD(F(x₁), F(x₂)). x₁ is the batch's picture, with the
usual loss; x₂ is the same picture with other contrast, brightness, colour and noise, so pixels stay in place. Each KL
is the mean over labelled pixels and trains its second argument only. MMD compares means, as in the paper: here of the
features that the classifier reads, over a picture's labelled pixels; it is the mean square over channels. Costs a
second pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.models.base import LAST
from rtseg.training.distill.base import Batch, MethodConfig, Teaching
from rtseg.training.distill.logits import divergence


@dataclass(frozen=True)
class DdsdConfig(MethodConfig):
    """`discrepancy` is the weight of the features' part; `strength` scales the distortion."""

    discrepancy: float = 0.1
    strength: float = 1.0

    has_teacher: ClassVar[bool] = False
    allowed: ClassVar = {"discrepancy": (0, 1000), "strength": (0, 4)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return DdsdTeaching(self)


class DdsdTeaching(Teaching):
    """The loss term; the distortion is drawn from torch's random numbers."""

    def __init__(self, config: DdsdConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: Batch) -> Tensor:
        one, other = batch.student, batch.look(distorted(batch.images, self.config.strength))
        p, q = (outputs.logits.detach().float().softmax(1) for outputs in (one, other))
        agree = divergence(p, other.logits, batch.labelled, 1.0) + divergence(q, one.logits, batch.labelled, 1.0)
        apart = self._mean(one.features[LAST], batch) - self._mean(other.features[LAST], batch)
        return batch.label_loss(other) + agree + self.config.discrepancy * apart.square().mean()

    @staticmethod
    def _mean(features: Tensor, batch: Batch) -> Tensor:
        """(N, D, h, w) -> (N, D)."""
        counted = batch.labelled_at(features)[:, None]
        return (features.float() * counted).sum((2, 3)) / counted.sum((2, 3)).clamp(min=1)


def distorted(images: Tensor, strength: float) -> Tensor:
    """Changes light, colour and noise of each picture: (N, H, W, 3) in 0..255 -> float32, same shape.

    At strength 1: contrast by a factor of 0.7 to 1.3, each colour by 0.9 to 1.1, brightness by ±38, noise of 6.
    """
    count, device = len(images), images.device
    x = images.float()
    contrast, colour = (1 + strength * by * uniform((count, 1, 1, n), device) for by, n in ((0.3, 1), (0.1, 3)))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * contrast * colour + mean + 38 * strength * uniform((count, 1, 1, 1), device)
    return (x + 6 * strength * torch.randn_like(x)).clamp(0, 255)


def uniform(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Random numbers in -1..1."""
    return 2 * torch.rand(shape, device=device) - 1
