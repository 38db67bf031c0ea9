"""PyramidNet (Han et al. 2017, "Deep Pyramidal Residual Networks", CVPR, arXiv 1610.02915): a ResNet that widens a
little with every block, instead of doubling its width at every downsampling.

With N blocks, the width behind block n (a quarter of the channels in a bottleneck network) is

    linear:          floor(base + alpha n / N)
    multiplicative:  floor(base alpha^(n / N))

A block is BN-3x3-BN-ReLU-3x3-BN, or BN-1x1-BN-ReLU-3x3-BN-ReLU-1x1-BN, without a ReLU after the sum; its shortcut is
the input, averaged over 2x2 if the block has a stride, and padded with channels of zeros.

Deviations: blocks are dilated instead of strided once the output stride is reached; `width` scales base and linear
alpha. The features at strides 4 to 16 are those of the blocks; the last ones have batch norm and ReLU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import initialise
from rtseg.models.blocks import ConvNormAct, scaled
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.pooling import Pool
from rtseg.models.encoders.settings import read_settings
from rtseg.models.encoders.staged import Staged

WIDENINGS = ("linear", "multiplicative")
_BASE = 64  # 16 on CIFAR


@dataclass(frozen=True)
class PyramidNetSettings:
    """PyramidNet's own fields.

    Attributes:
        widening: 'linear' or 'multiplicative'.
        alpha: linear: total amount added to the first width of 64; multiplicative: total factor on it. None ends at
            512, like ResNet, and at the paper's 364 in PyramidNet-200.
    """

    widening: str = "linear"
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.widening not in WIDENINGS:
            raise UsageError(f"widening is {self.widening!r}: allowed are {' and '.join(WIDENINGS)}")
        lowest = 0 if self.widening == "linear" else 1
        if self.alpha is not None and not lowest <= self.alpha <= 10_000:
            raise UsageError(f"alpha is {self.alpha!r}: with {self.widening} widening it must be at least {lowest}")


def widths(base: int, blocks: int, widening: str, alpha: float) -> list[int]:
    """The width behind each block."""
    if widening == "linear":
        return [int(base + alpha * n / blocks) for n in range(1, blocks + 1)]
    return [int(base * alpha ** (n / blocks) + 1e-9) for n in range(1, blocks + 1)]


def _layers(inputs: int, width: int, bottleneck: bool, stride: int, before: int, dilation: int) -> list[nn.Module]:
    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
        padding = dilation * (kernel // 2)
        made = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        return [made, nn.BatchNorm2d(outputs)]

    relu = nn.ReLU(inplace=True)
    if not bottleneck:
        return [nn.BatchNorm2d(inputs), *conv(inputs, width, 3, stride, before), relu,
                *conv(width, width, 3, dilation=dilation)]  # fmt: skip
    return [nn.BatchNorm2d(inputs), *conv(inputs, width, 1), relu, *conv(width, width, 3, stride, before), relu,
            *conv(width, 4 * width, 1)]  # fmt: skip


class PyramidBlock(nn.Module):
    """(N, inputs, H, W) -> (N, width or 4 * width, H/s, W/s).

    Args:
        inputs: channels.
        width: of the 3x3 convolutions.
        bottleneck: whether the block has 1x1, 3x3 and 1x1 convolutions.
        halves: whether it has a stride, or would have one without dilation.
        budget: for strides.
    """

    def __init__(self, inputs: int, width: int, bottleneck: bool, halves: bool, budget: StrideBudget) -> None:
        super().__init__()
        stride, before, dilation = budget.spend(2 if halves else 1)
        self.residual = nn.Sequential(*_layers(inputs, width, bottleneck, stride, before, dilation))
        self.channels = 4 * width if bottleneck else width
        self.shortcut = Pool("mean", 2, stride, before) if halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.residual(x)
        wider = F.pad(self.shortcut(x), (0, 0, 0, 0, 0, residual.shape[1] - x.shape[1]))  # pruning changes the channels
        return residual + wider


def pyramid_stages(
    inputs: int, steps: Sequence[int], depths: Sequence[int], bottleneck: bool, budget: StrideBudget
) -> tuple[list[list[nn.Module]], list[int]]:
    """Returns the blocks of each stage and the channels behind each; every stage but the first starts by halving.

    Args:
        inputs: channels.
        steps: width of each block, over all stages.
        depths: number of blocks in each stage.
        bottleneck: see `PyramidBlock`.
        budget: for strides.
    """
    left = iter(steps)
    stages: list[list[nn.Module]] = []
    channels: list[int] = []
    for depth in depths:
        stage: list[nn.Module] = []
        for index in range(depth):
            block = PyramidBlock(inputs, next(left), bottleneck, bool(stages) and index == 0, budget)
            stage.append(block)
            inputs = block.channels
        stages.append(stage)
        channels.append(inputs)
    return stages, channels


def _pyramidnet(options: TrunkOptions, depths: Sequence[int], bottleneck: bool, added: int = 448) -> Staged:
    """Builds a member of the family; `added` is the default total increase in width."""
    settings = read_settings(PyramidNetSettings, options)
    base, linear = scaled(_BASE, options.width), settings.widening == "linear"
    alpha = settings.alpha
    if alpha is None:
        alpha = added if linear else (_BASE + added) / _BASE
    steps = widths(base, sum(depths), settings.widening, alpha * options.width if linear else alpha)
    budget = StrideBudget(options.output_stride)
    budget.spend(2), budget.spend(2)  # stem and max pooling
    stages, channels = pyramid_stages(base, steps, depths, bottleneck, budget)
    stages[0].insert(0, nn.MaxPool2d(3, 2, 1))
    stages[-1] += [nn.BatchNorm2d(channels[-1]), nn.ReLU(inplace=True)]
    network = Staged([[ConvNormAct(3, base, 7, stride=2)], *stages], channels)
    initialise(network)
    return network


def pyramidnet18(options: TrunkOptions) -> Staged:
    """PyramidNet-18."""
    return _pyramidnet(options, (2, 2, 2, 2), bottleneck=False)


def pyramidnet50(options: TrunkOptions) -> Staged:
    """PyramidNet-50."""
    return _pyramidnet(options, (3, 4, 6, 3), bottleneck=True)


def pyramidnet200(options: TrunkOptions) -> Staged:
    """PyramidNet-200, with the paper's alpha of 300."""
    return _pyramidnet(options, (3, 24, 36, 3), bottleneck=True, added=300)
