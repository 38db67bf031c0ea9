"""MobileNet v1, v2, v3 (Howard et al. 2017, arXiv 1704.04861; Sandler et al. 2018, CVPR; Howard et al. 2019, ICCV).

Deviations: stages are dilated instead of strided once the output stride is reached; v2 ends before its last 1x1
convolution, like its authors' segmentation network (section 6.3). v3's batch norm has the authors' epsilon and
momentum.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models.base import initialise
from rtseg.models.blocks import ConvNormAct
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.squeeze import SqueezeExcite
from rtseg.models.encoders.staged import Staged


def rounded(channels: float) -> int:
    """Rounds to a multiple of 8, never more than a tenth below (the authors' rule)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class Row(NamedTuple):
    """One block of the papers' tables."""

    kernel: int
    expanded: int
    outputs: int
    stride: int
    act: type[nn.Module]
    squeeze: bool = False


class DepthwiseSeparable(nn.Sequential):
    """3x3 depthwise, then 1x1 (v1)."""

    def __init__(self, inputs: int, row: Row, stride: int, dilation: int) -> None:
        super().__init__(
            ConvNormAct(inputs, inputs, row.kernel, stride, dilation, inputs, row.act),
            ConvNormAct(inputs, row.outputs, 1, act=row.act),
        )


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise, 1x1 to fewer; added to the input if the shape is unchanged (v2, v3)."""

    def __init__(self, inputs: int, row: Row, stride: int, dilation: int) -> None:
        super().__init__()
        inner, act = row.expanded, row.act
        layers: list[nn.Module] = [] if inner == inputs else [ConvNormAct(inputs, inner, 1, act=act)]
        layers.append(ConvNormAct(inner, inner, row.kernel, stride, dilation, inner, act))
        layers += [SqueezeExcite(inner, rounded(inner / 4), F.hardsigmoid)] if row.squeeze else []
        self.residual = nn.Sequential(*layers, ConvNormAct(inner, row.outputs, 1, act=None))
        self.adds = row.stride == 1 and inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.residual(x)
        return x + residual if self.adds else residual


Block = Callable[[int, Row, int, int], nn.Module]


class MobileNet(Staged):
    """Features at 1/4, 1/8, 1/16 and 1/32 of the image, but no coarser than the output stride.

    Args:
        block: builds the block of a table row.
        stem: channels and activation of the first convolution.
        rows: the paper's table, with channels already scaled.
        last: channels of a 1x1 convolution behind the last block; 0 for none.
        options: uses the output stride.
    """

    def __init__(
        self, block: Block, stem: tuple[int, type[nn.Module]], rows: list[Row], last: int, options: TrunkOptions
    ) -> None:
        budget = StrideBudget(options.output_stride)
        inputs, act = stem
        stride, *_ = budget.spend(2)
        stages: list[list[nn.Module]] = [[ConvNormAct(3, inputs, 3, stride, act=act)]]
        channels = [inputs]
        for row in rows:
            stride, dilation, _ = budget.spend(row.stride)
            if row.stride > 1:
                stages.append([])
                channels.append(0)
            stages[-1].append(block(inputs, row, stride, dilation))
            channels[-1] = inputs = row.outputs
        if last:
            stages[-1].append(ConvNormAct(inputs, last, 1, act=act))
            channels[-1] = last
        super().__init__(stages, channels[1:])
        initialise(self)


def mobilenet_v1(options: TrunkOptions) -> MobileNet:
    """MobileNet v1."""
    table = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    rows = [Row(3, 0, rounded(outputs * options.width), stride, nn.ReLU6) for outputs, stride in table]
    return MobileNet(DepthwiseSeparable, (rounded(32 * options.width), nn.ReLU6), rows, 0, options)


def mobilenet_v2(options: TrunkOptions) -> MobileNet:
    """MobileNet v2."""
    inputs = stem = rounded(32 * options.width)
    rows = []
    for expansion, outputs, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(count):
            outputs_here = rounded(outputs * options.width)
            rows.append(Row(3, inputs * expansion, outputs_here, stride if index == 0 else 1, nn.ReLU6))
            inputs = outputs_here
    return MobileNet(InvertedResidual, (stem, nn.ReLU6), rows, 0, options)


_RE, _HS = nn.ReLU, nn.Hardswish
V3_LARGE = [
    Row(3, 16, 16, 1, _RE), Row(3, 64, 24, 2, _RE), Row(3, 72, 24, 1, _RE),
    Row(5, 72, 40, 2, _RE, True), *[Row(5, 120, 40, 1, _RE, True)] * 2,
    Row(3, 240, 80, 2, _HS), Row(3, 200, 80, 1, _HS), *[Row(3, 184, 80, 1, _HS)] * 2,
    Row(3, 480, 112, 1, _HS, True), Row(3, 672, 112, 1, _HS, True),
    Row(5, 672, 160, 2, _HS, True), *[Row(5, 960, 160, 1, _HS, True)] * 2,
]  # fmt: skip
V3_SMALL = [
    Row(3, 16, 16, 2, _RE, True), Row(3, 72, 24, 2, _RE), Row(3, 88, 24, 1, _RE),
    Row(5, 96, 40, 2, _HS, True), *[Row(5, 240, 40, 1, _HS, True)] * 2,
    Row(5, 120, 48, 1, _HS, True), Row(5, 144, 48, 1, _HS, True),
    Row(5, 288, 96, 2, _HS, True), *[Row(5, 576, 96, 1, _HS, True)] * 2,
]  # fmt: skip


def _v3(table: list[Row], options: TrunkOptions) -> MobileNet:
    rows = [
        row._replace(expanded=rounded(row.expanded * options.width), outputs=rounded(row.outputs * options.width))
        for row in table
    ]
    network = MobileNet(InvertedResidual, (rounded(16 * options.width), _HS), rows, 6 * rows[-1].outputs, options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.01
    return network


def mobilenet_v3_large(options: TrunkOptions) -> MobileNet:
    """MobileNet v3, large."""
    return _v3(V3_LARGE, options)


def mobilenet_v3_small(options: TrunkOptions) -> MobileNet:
    """MobileNet v3, small."""
    return _v3(V3_SMALL, options)
