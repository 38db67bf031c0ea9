"""Teaches without any pictures: a generator makes them (data-free learning of student networks: Chen 2019, arXiv
1904.01186).

The generator minimises CE(z_t, argmax z_t) - `activation` mean|f_t| + `balance` Σ_c p̄_c log p̄_c: the teacher should
be sure of its pictures, respond strongly to them, and find all classes in a batch. f_t are the features that its
classifier reads, p̄ its mean probabilities over all pixels. The student's term is T² KL(p_t ‖ p_s) on the same
pictures, over all pixels.

The data set provides the classes, the length of an epoch and the holdouts; the split's pictures and labels are not
used, and there is no loss from labels. Other methods of the run see the generator's pictures, labelled by the teacher;
so does the run's train_miou, which then measures how well the student agrees with its teacher. The paper's generator
starts from a vector and makes one object; this one starts from a map of random numbers, so that a street can vary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models import SegmentationModel
from rtseg.models.base import LAST
from rtseg.training.distill.base import Batch, Made, MethodConfig, Teaching
from rtseg.training.distill.logits import logit_loss
from rtseg.training.distill.teachers import Seen, Teachers, mean_probabilities

_STRIDE, _RANDOM = 16, 32  # stride and channels of the map of random numbers


@dataclass(frozen=True)
class DaflConfig(MethodConfig):
    """`activation` and `balance` are the paper's α and β; `width` is the generator's channel count."""

    activation: float = 0.1
    balance: float = 5.0
    width: int = 32
    temperature: float = 2.0

    makes_pictures: ClassVar[bool] = True
    allowed: ClassVar = {"activation": (0, 100), "balance": (0, 100), "width": (1, 512), "temperature": (0.1, 100),
                         "until": (1, 1)}  # fmt: skip

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return DaflTeaching(self)


class Generator(nn.Module):
    """Random numbers (N, 32, H/16, W/16) -> pictures in 0..255, float32 (N, H, W, 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(_RANDOM, width, 3, padding=1), nn.BatchNorm2d(width)]
        for _ in range(4):
            layers += [
                nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1), nn.BatchNorm2d(3, affine=False))

    def forward(self, size_hw: tuple[int, int], count: int, device: torch.device) -> Tensor:
        height, width = (-(-size // _STRIDE) for size in size_hw)
        x: Tensor = self.layers(torch.randn(count, _RANDOM, height, width, device=device))
        return 255 * x[..., : size_hw[0], : size_hw[1]].float().sigmoid().permute(0, 2, 3, 1)


class DaflTeaching(Teaching):
    """The generator, its loss, and the student's term."""

    def __init__(self, config: DaflConfig) -> None:
        super().__init__()
        self.config, self.generator = config, Generator(config.width)

    def make(self, images: Tensor, teachers: Teachers) -> Made:
        count, height, width, _ = images.shape
        made = self.generator((height, width), count, images.device)
        seen = teachers.feel(made)
        losses = [generator_loss(found, self.config.activation, self.config.balance) for found in seen]
        with torch.no_grad():
            labels = mean_probabilities(seen, torch.Size((height, width))).argmax(1)
        return Made(made.detach(), labels, torch.stack(losses).mean())

    def forward(self, batch: Batch) -> Tensor:
        return logit_loss(batch.student.logits, batch.seen, batch.labelled, self.config.temperature)


def generator_loss(seen: Seen, activation: float, balance: float) -> Tensor:
    """The generator's loss for pictures that the teacher has seen, a scalar; see the module."""
    logits, features = seen[0].float(), seen[1][LAST].float()
    sure = F.cross_entropy(logits, logits.argmax(1))
    shares = logits.softmax(1).mean((0, 2, 3))
    spread = (shares * shares.clamp(min=1e-12).log()).sum()
    return sure - activation * features.abs().mean() + balance * spread
