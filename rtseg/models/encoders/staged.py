"""Encoders whose stages follow one another."""

from collections.abc import Sequence

from torch import Tensor, nn

from rtseg.models.encoders.base import Encoder


class Staged(Encoder):
    """Stages from stride 2 on, each at half the resolution of the one before; returns all features but the first.

    Args:
        stages: the layers of each stage.
        channels: behind each stage but the first.
    """

    def __init__(self, stages: Sequence[Sequence[nn.Module]], channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)
        self.channels = tuple(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features[1:])

    def cut(self, stride: int) -> tuple[nn.Sequential, nn.Sequential]:
        count = stride.bit_length() - 1  # one stage per halving
        return nn.Sequential(*self.stages[:count]), nn.Sequential(*self.stages[count:])
