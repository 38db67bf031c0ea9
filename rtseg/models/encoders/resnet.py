"""ResNet (He et al. 2016, "Deep Residual Learning for Image Recognition", CVPR), dilated to an output stride.

Deviations: the stride of a bottleneck is in its 3x3 convolution, as in torchvision's weights (the authors' Caffe
network has it in the first 1x1: `CaffeBottleneck`, which ICNet uses); stages are dilated instead of strided once the
output stride is reached (Chen et al. 2017, arXiv 1706.05587); channel counts can be scaled; the stem can be three 3x3
convolutions (Zhao et al. 2017, PSPNet); the last 3x3 convolutions can be active or deformable (`conv`; see
`rtseg.models.encoders.sampling` for papers and cost).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import initialise
from rtseg.models.blocks import ConvNormAct, scaled
from rtseg.models.encoders.base import Encoder, StrideBudget, TrunkOptions
from rtseg.models.encoders.sampling import CONVOLUTIONS, replace_last
from rtseg.models.encoders.settings import read_settings

PLAIN = "plain"


@dataclass(frozen=True)
class ResNetSettings:
    """ResNet's own fields.

    Attributes:
        conv: kind of the last 3x3 convolutions: 'plain', 'deformable' or 'active'.
        conv_count: how many of them; 3 as in the paper on deformable convolutions, where 6 gained little more.
    """

    conv: str = PLAIN
    conv_count: int = 3

    def __post_init__(self) -> None:
        if self.conv not in (PLAIN, *CONVOLUTIONS):
            raise UsageError(f"conv is {self.conv!r}: allowed are {', '.join((PLAIN, *CONVOLUTIONS))}")
        if type(self.conv_count) is not int or self.conv_count < 1:
            raise UsageError(f"conv_count is {self.conv_count!r}: it must be a whole number of at least 1")


class ResidualBlock(nn.Module):
    """Base of all ResNet blocks: a residual, added to the input, or to a projection of it if the shape changes.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the block.
        dilation: of its 3x3 convolutions.
        before: dilation of the 3x3 convolution with the stride, if that differs (see `StrideBudget`).
    """

    expansion: ClassVar[int]

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, before: int | None = None
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(*self._layers(inputs, outputs, stride, dilation, before or dilation))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvNormAct(inputs, outputs, 1, stride, act=None)

    def _layers(self, inputs: int, outputs: int, stride: int, dilation: int, before: int) -> list[nn.Module]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    expansion = 1

    def _layers(self, inputs: int, outputs: int, stride: int, dilation: int, before: int) -> list[nn.Module]:
        return [
            ConvNormAct(inputs, outputs, 3, stride, before),
            ConvNormAct(outputs, outputs, 3, dilation=dilation, act=None),
        ]


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions (ResNet-50 and deeper); the stride is in the 3x3."""

    expansion = 4

    def _layers(self, inputs: int, outputs: int, stride: int, dilation: int, before: int) -> list[nn.Module]:
        inner = outputs // 4
        return [
            ConvNormAct(inputs, inner, 1),
            ConvNormAct(inner, inner, 3, stride, before),
            ConvNormAct(inner, outputs, 1, act=None),
        ]


class CaffeBottleneck(Bottleneck):
    """The original form: the stride is in the first 1x1."""

    def _layers(self, inputs: int, outputs: int, stride: int, dilation: int, before: int) -> list[nn.Module]:
        inner = outputs // 4
        return [
            ConvNormAct(inputs, inner, 1, stride),
            ConvNormAct(inner, inner, 3, dilation=dilation),
            ConvNormAct(inner, outputs, 1, act=None),
        ]


def stage(
    block: type[ResidualBlock], inputs: int, outputs: int, rates: Sequence[int], stride: int = 1,
    before: int | None = None,
) -> list[nn.Module]:  # fmt: skip
    """The blocks of a stage, one per dilation rate; the first has the stride."""
    first = block(inputs, outputs, stride, rates[0], before)
    return [first, *(block(outputs, outputs, 1, rate) for rate in rates[1:])]


class ResNet(Encoder):
    """Features of stages 2 to 5 (`layer1` to `layer4`): 1/4, 1/8, 1/16, 1/32, but no coarser than the output stride."""

    def __init__(self, block: type[ResidualBlock], depths: tuple[int, int, int, int], options: TrunkOptions) -> None:
        super().__init__()
        grid = options.multi_grid
        if grid is not None and len(grid) != depths[3]:
            raise UsageError(f"multi_grid is {grid}: the last stage has {depths[3]} blocks, each needs its unit rate")
        self.block = block
        base = scaled(64, options.width)
        budget = StrideBudget(options.output_stride)
        budget.spend(2), budget.spend(2)  # stem and max pooling
        if options.deep_stem:
            self.stem = nn.Sequential(
                ConvNormAct(3, base, stride=2), ConvNormAct(base, base), ConvNormAct(base, 2 * base)
            )
        else:
            self.stem = nn.Sequential(ConvNormAct(3, base, 7, stride=2))
        inputs = 2 * base if options.deep_stem else base
        channels, stages = [], []
        for index, depth in enumerate(depths):
            outputs = scaled(64 * 2**index * block.expansion, options.width)
            stride, before, rate = budget.spend(1 if index == 0 else 2)
            rates = [rate] * depth
            if grid is not None and index == 3:
                rates, before = [rate * unit for unit in grid], rate * grid[0]
            stages.append(nn.Sequential(*stage(block, inputs, outputs, rates, stride, before)))
            channels.append(outputs)
            inputs = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(channels)
        initialise(self)
        settings = read_settings(ResNetSettings, options)
        if settings.conv != PLAIN:
            replace_last(nn.ModuleList(stages), settings.conv, settings.conv_count)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        c2 = self.layer1(F.max_pool2d(self.stem(x), 3, 2, 1))  # (N, ·, H/4, W/4)
        c3 = self.layer2(c2)  # (N, ·, H/8, W/8)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)

    def cut(self, stride: int) -> tuple[nn.Sequential, nn.Sequential]:
        layers = [self.stem, nn.MaxPool2d(3, 2, 1), self.layer1, self.layer2, self.layer3, self.layer4]
        count = stride.bit_length()  # stem and pooling together lead to stride 4
        return nn.Sequential(*layers[:count]), nn.Sequential(*layers[count:])


def resnet18(options: TrunkOptions) -> ResNet:
    """ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), options)


def resnet34(options: TrunkOptions) -> ResNet:
    """ResNet-34."""
    return ResNet(BasicBlock, (3, 4, 6, 3), options)


def resnet50(options: TrunkOptions) -> ResNet:
    """ResNet-50."""
    return ResNet(Bottleneck, (3, 4, 6, 3), options)


def resnet50_half(options: TrunkOptions) -> ResNet:
    """ResNet-50 with half the channels: a quarter of the weights and of the arithmetic (as in ICNet)."""
    return resnet50(replace(options, width=options.width / 2))


def resnet101(options: TrunkOptions) -> ResNet:
    """ResNet-101."""
    return ResNet(Bottleneck, (3, 4, 23, 3), options)
