"""CliqueNet (Yang et al. 2018, "Convolutional Neural Networks with Alternately Updated Clique", CVPR, arXiv
1802.10419).

Every two layers of a block are connected both ways, with weights W_ij from layer i to layer j, used in two stages ([]
concatenates, * is BN-ReLU-convolution; each stage has batch norms of its own):

    I:   X1_i = [W_0i, W_1i ... W_(i-1)i] * [X_0, X1_1 ... X1_(i-1)]                      as in a DenseNet
    II:  X2_i = [W_li, W_mi] * [X2_l for l < i, X1_m for m > i]                           layer after layer, without X_0

A block passes [X2_1 ... X2_n] to the next one through a transition (1x1 convolution, 2x2 mean), so widths do not grow.
The network's output is computed from [X_0, X2_1 ... X2_n] of all blocks (multi-scale features): these are the encoder's
features. Options in the paper (its S0 to S3 use the first and the last, its S3* all three):

    bottleneck   the W are 1x1; each layer adds a 3x3 convolution, the same in both stages
    attention    transitions scale their channels by squeeze and excitation, with half as many in between
    compress     features pass BN-ReLU-1x1 to half as many channels, BN, ReLU

Deviations: features of all blocks are averaged to the output stride's cells, and global pooling belongs to the
classifier; blocks are dilated instead of pooled once the output stride is reached; `width` scales the channels of every
layer. No dropout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import initialise
from rtseg.models.blocks import ConvNormAct, scaled
from rtseg.models.encoders.base import Encoder, StrideBudget, TrunkOptions
from rtseg.models.encoders.densenet import norm_act_conv
from rtseg.models.encoders.pooling import halve
from rtseg.models.encoders.settings import read_settings
from rtseg.models.encoders.squeeze import SqueezeExcite

S0 = ((36, 5), (64, 6), (100, 6), (80, 6))
S1 = ((36, 5), (80, 6), (120, 6), (100, 6))
S2 = ((36, 5), (80, 5), (150, 6), (120, 6))
S3 = ((40, 6), (80, 6), (160, 6), (160, 6))


@dataclass(frozen=True)
class CliqueNetSettings:
    """CliqueNet's own fields, see the module.

    Attributes:
        bottleneck: 1x1 connections, and a 3x3 convolution per layer.
        attention: attentional transitions.
        compress: half as many channels in the features.
    """

    bottleneck: bool = True
    attention: bool = False
    compress: bool = True

    def __post_init__(self) -> None:
        for name in ("bottleneck", "attention", "compress"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} is {getattr(self, name)!r}: allowed are true and false")


class CliqueBlock(nn.Module):
    """(N, inputs, H, W) -> (N, layers * channels, H, W): X2_1 to X2_n.

    Args:
        inputs: channels of X_0.
        channels: k, of each layer.
        layers: n, at least 2.
        bottleneck: see `CliqueNetSettings`.
        dilation: of the 3x3 convolutions.
    """

    def __init__(self, inputs: int, channels: int, layers: int, bottleneck: bool, dilation: int) -> None:
        super().__init__()
        self.channels, others = channels, (layers - 1) * channels
        kernel = 1 if bottleneck else 3
        self.padding, self.dilation = dilation * (kernel // 2), dilation
        # W_0i, and W_ji of all other layers j in their order, of which stage I reads the first i
        self.from_input = nn.ModuleList(nn.Conv2d(inputs, channels, kernel, bias=False) for _ in range(layers))
        self.between = nn.ModuleList(nn.Conv2d(others, channels, kernel, bias=False) for _ in range(layers))
        self.norms_1 = nn.ModuleList(nn.BatchNorm2d(inputs + index * channels) for index in range(layers))
        self.norms_2 = nn.ModuleList(nn.BatchNorm2d(others) for _ in range(layers))
        behind = range(layers if bottleneck else 0)
        self.behind_1 = nn.ModuleList(nn.BatchNorm2d(channels) for _ in behind)
        self.behind_2 = nn.ModuleList(nn.BatchNorm2d(channels) for _ in behind)
        self.spread = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False) for _ in behind
        )

    def forward(self, x: Tensor) -> Tensor:
        layers: list[Tensor] = []
        for index, norm in enumerate(self.norms_1):
            known = index * self.channels
            weight = torch.cat([_weight(self.from_input, index), _weight(self.between, index)[:, :known]], 1)
            layers.append(self._update([x, *layers], norm, weight, self.behind_1, index))
        for index, norm in enumerate(self.norms_2):
            others = [*layers[:index], *layers[index + 1 :]]
            layers[index] = self._update(others, norm, _weight(self.between, index), self.behind_2, index)
        return torch.cat(layers, 1)

    def _update(self, seen: list[Tensor], norm: nn.Module, weight: Tensor, behind: nn.ModuleList, index: int) -> Tensor:
        x = F.relu(norm(torch.cat(seen, 1)))
        updated = F.conv2d(x, weight, padding=self.padding, dilation=self.dilation)  # (N, k, H, W)
        if self.spread:
            updated = self.spread[index](F.relu(behind[index](updated)))
        return updated


def _weight(layers: nn.ModuleList, index: int) -> Tensor:
    return cast(nn.Conv2d, layers[index]).weight


class CliqueStage(nn.Module):
    """A transition (except in the first stage) and a block: returns the features and the next stage's input."""

    def __init__(
        self, inputs: int, channels: int, layers: int, settings: CliqueNetSettings, budget: StrideBudget, first: bool
    ) -> None:
        super().__init__()
        transition: list[nn.Module] = [] if first else norm_act_conv(inputs, inputs)
        if not first and settings.attention:
            transition.append(SqueezeExcite(inputs, inputs // 2, nn.Sigmoid()))
        self.transition = nn.Sequential(*transition, *([] if first else [halve(budget, "mean")]))
        self.block = CliqueBlock(inputs, channels, layers, settings.bottleneck, budget.rate)
        self.outputs = layers * channels
        both = inputs + self.outputs
        self.features = both // 2 if settings.compress else both
        squeezing = norm_act_conv(both, self.features) if settings.compress else []
        self.compress = nn.Sequential(*squeezing, nn.BatchNorm2d(self.features), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.transition(x)
        refined = self.block(x)
        return self.compress(torch.cat([x, refined], 1)), refined


class CliqueNet(Encoder):
    """Features of the four blocks; the last are those of all blocks, averaged to the output stride.

    Args:
        blocks: channels and number of layers of each block.
        options: see `TrunkOptions`.
    """

    def __init__(self, blocks: Sequence[tuple[int, int]], options: TrunkOptions) -> None:
        super().__init__()
        settings = read_settings(CliqueNetSettings, options)
        budget = StrideBudget(options.output_stride)
        budget.spend(2), budget.spend(2)  # stem and max pooling
        inputs = scaled(64, options.width)
        self.stem = nn.Sequential(ConvNormAct(3, inputs, 7, stride=2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList()
        features: list[int] = []
        self.left: list[int] = []  # how many halvings each stage's features still need
        for channels, layers in blocks:
            width = channels if options.width == 1 else scaled(channels, options.width)
            stage = CliqueStage(inputs, width, layers, settings, budget, first=not self.stages)
            self.stages.append(stage)
            features.append(stage.features)
            self.left.append(budget.left)
            inputs = stage.outputs
        self.channels = (*features[:-1], sum(features))
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            seen, x = stage(x)
            features.append(seen)
        scales = [F.avg_pool2d(seen, left) for seen, left in zip(features, self.left, strict=True)]
        return (*features[:-1], torch.cat(scales, 1))


def cliquenet_s0(options: TrunkOptions) -> CliqueNet:
    """CliqueNet-S0."""
    return CliqueNet(S0, options)


def cliquenet_s1(options: TrunkOptions) -> CliqueNet:
    """CliqueNet-S1."""
    return CliqueNet(S1, options)


def cliquenet_s2(options: TrunkOptions) -> CliqueNet:
    """CliqueNet-S2."""
    return CliqueNet(S2, options)


def cliquenet_s3(options: TrunkOptions) -> CliqueNet:
    """CliqueNet-S3."""
    return CliqueNet(S3, options)
