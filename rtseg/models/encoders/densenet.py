"""DenseNet (Huang et al. 2017, "Densely Connected Convolutional Networks", CVPR, arXiv 1608.06993).

Every layer of a block reads the outputs of all layers before it: x_l = H_l([x_0, ..., x_(l-1)]), with k (`growth`)
channels each. H is BN-ReLU-3x3; in the B form a 1x1 convolution to 4 k channels comes first. A transition (1x1
convolution, 2x2 mean) keeps a share `compression` of the channels; below 1 that is the C form. The names stand for the
BC form:

    plain: bottleneck=false, compression=1    B: compression=1    C: bottleneck=false    BC: the default

Deviations: blocks are dilated instead of pooled once the output stride is reached; `width` scales the growth. The
features at strides 4 to 16 are those of the blocks, before the transition; the last ones have batch norm and ReLU.
torchvision and timm have the BC form only, without dilation; their weights fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import initialise
from rtseg.models.blocks import ConvNormAct, scaled
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.pooling import halve
from rtseg.models.encoders.settings import read_settings
from rtseg.models.encoders.staged import Staged


@dataclass(frozen=True)
class DenseNetSettings:
    """DenseNet's own fields.

    Attributes:
        growth: k, the channels that each layer adds.
        layers: of each block.
        bottleneck: whether a 1x1 convolution to 4 k channels comes before each 3x3 one.
        compression: share of the channels that a transition keeps, above 0 and at most 1.
    """

    growth: int = 32
    layers: tuple[int, ...] = (6, 12, 24, 16)
    bottleneck: bool = True
    compression: float = 0.5

    def __post_init__(self) -> None:
        if type(self.growth) is not int or self.growth < 1:
            raise UsageError(f"growth is {self.growth!r}: it must be a whole number of at least 1")
        if not isinstance(self.layers, tuple) or any(type(n) is not int or n < 1 for n in self.layers):
            raise UsageError(f"layers is {self.layers!r}: it must be a list of whole numbers of at least 1")
        if not isinstance(self.bottleneck, bool):
            raise UsageError(f"bottleneck is {self.bottleneck!r}: allowed are true and false")
        if not 0 < self.compression <= 1:
            raise UsageError(f"compression is {self.compression!r}: allowed is above 0 to 1")


def norm_act_conv(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> list[nn.Module]:
    """Batch norm, ReLU, convolution: the order in networks that concatenate."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    return [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv]


class DenseLayer(nn.Module):
    """(N, C, H, W) -> (N, C + growth, H, W)."""

    def __init__(self, inputs: int, settings: DenseNetSettings, growth: int, dilation: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if settings.bottleneck:
            layers, inputs = norm_act_conv(inputs, 4 * growth), 4 * growth
        self.layers = nn.Sequential(*layers, *norm_act_conv(inputs, growth, 3, dilation))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


def dense_stages(
    inputs: int, settings: DenseNetSettings, growth: int, budget: StrideBudget
) -> tuple[list[list[nn.Module]], list[int]]:
    """Returns the blocks, each but the first behind a transition, and the channels behind each."""
    stages: list[list[nn.Module]] = []
    channels: list[int] = []
    for count in settings.layers:
        stage: list[nn.Module] = []
        if stages:
            kept = max(1, int(settings.compression * inputs))
            stage = [*norm_act_conv(inputs, kept), halve(budget, "mean")]
            inputs = kept
        for _ in range(count):
            stage.append(DenseLayer(inputs, settings, growth, budget.rate))
            inputs += growth
        stages.append(stage)
        channels.append(inputs)
    return stages, channels


def _densenet(options: TrunkOptions, layers: Sequence[int], growth: int = 32) -> Staged:
    settings = read_settings(DenseNetSettings, options, growth=growth, layers=tuple(layers))
    if len(settings.layers) != 4:
        raise UsageError(f"layers is {settings.layers}: an encoder has four blocks, for strides 4, 8, 16 and 32")
    growth = settings.growth if options.width == 1 else scaled(settings.growth, options.width)
    budget = StrideBudget(options.output_stride)
    budget.spend(2), budget.spend(2)  # stem and max pooling
    stages, channels = dense_stages(2 * growth, settings, growth, budget)
    stages[0].insert(0, nn.MaxPool2d(3, 2, 1))
    stages[-1] += [nn.BatchNorm2d(channels[-1]), nn.ReLU(inplace=True)]
    network = Staged([[ConvNormAct(3, 2 * growth, 7, stride=2)], *stages], channels)
    initialise(network)
    return network


def densenet121(options: TrunkOptions) -> Staged:
    """DenseNet-121."""
    return _densenet(options, (6, 12, 24, 16))


def densenet161(options: TrunkOptions) -> Staged:
    """DenseNet-161, of growth 48."""
    return _densenet(options, (6, 12, 36, 24), 48)


def densenet169(options: TrunkOptions) -> Staged:
    """DenseNet-169."""
    return _densenet(options, (6, 12, 32, 32))


def densenet201(options: TrunkOptions) -> Staged:
    """DenseNet-201."""
    return _densenet(options, (6, 12, 48, 32))
