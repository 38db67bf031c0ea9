"""Decoder steps: each combines coarse features with the trunk's features at twice their resolution.

Each takes float (N, inputs, H, W) and (N, skip, 2H, 2W) to (N, outputs, 2H, 2W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models.blocks import ConvNormAct, upsample2


class SumStep(nn.Module):
    """SwiftNet's step (Oršić 2019): adds upsampled and lateral features, then blends them with a 3x3 convolution."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Identity() if inputs == outputs else ConvNormAct(inputs, outputs, 1)
        self.lateral = ConvNormAct(skip, outputs, 1, act=None)
        self.blend = ConvNormAct(outputs, outputs)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        blended: Tensor = self.blend(F.relu(upsample2(self.narrow(coarse)) + self.lateral(skip)))
        return blended


class AttentionStep(nn.Module):
    """PP-LiteSeg's step (Peng 2022, arXiv 2204.02681, UAFM): weighs the two inputs at every position.

    The weight is computed from the mean and the maximum of both over their channels.
    """

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Identity() if inputs == outputs else ConvNormAct(inputs, outputs, 1)
        self.lateral = ConvNormAct(skip, outputs, 1)
        self.attention = nn.Sequential(ConvNormAct(4, 4), nn.Conv2d(4, 1, 3, padding=1))
        self.blend = ConvNormAct(outputs, outputs)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        coarse, skip = upsample2(self.narrow(coarse)), self.lateral(skip)
        seen = torch.cat([f(x, 1, keepdim=True) for x in (coarse, skip) for f in (torch.mean, torch.amax)], 1)
        share = self.attention(seen).sigmoid()  # (N, 1, 2H, 2W)
        blended: Tensor = self.blend(coarse * share + skip * (1 - share))
        return blended


class SeparableStep(nn.Module):
    """DeepLab-v3+'s step (Chen 2018, arXiv 1802.02611), with separable convolutions as in MobileSeg (PaddleSeg, 2021):
    concatenates both inputs, then blends them with a depthwise separable convolution.

    The trunk's features are narrowed first, so that the semantically richer coarse ones outweigh them.
    """

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        lateral = max(16, outputs // 2)
        self.lateral = ConvNormAct(skip, lateral, 1)
        both = inputs + lateral
        self.blend = nn.Sequential(ConvNormAct(both, both, groups=both), ConvNormAct(both, outputs, 1))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        blended: Tensor = self.blend(torch.cat([upsample2(coarse), self.lateral(skip)], 1))
        return blended


STEPS: dict[str, type[nn.Module]] = {"sum": SumStep, "attention": AttentionStep, "separable": SeparableStep}


class Refinement(nn.Module):
    """DeepLab-v3+'s decoder for any context module: separable steps from the output stride to a finer one.

    Args:
        inputs: channels of the coarse features.
        skips: channels of the trunk's features at strides 4, 8 and 16.
        output_stride: of the coarse features.
        logits_stride: stride to end at; if it is the output stride, there are no steps.

    Attributes:
        channels: of the result; the last step, at stride 4, has half as many as the coarse features.
    """

    def __init__(self, inputs: int, skips: tuple[int, ...], output_stride: int, logits_stride: int) -> None:
        super().__init__()
        self.levels = [level for level in (2, 1, 0) if logits_stride <= 4 << level < output_stride]
        self.steps = nn.ModuleList()
        self.channels = inputs
        for level in self.levels:
            outputs = inputs if level else inputs // 2
            self.steps.append(SeparableStep(self.channels, skips[level], outputs))
            self.channels = outputs

    def forward(self, coarse: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        """`features` are the trunk's at strides 4, 8 and 16."""
        for level, step in zip(self.levels, self.steps, strict=True):
            coarse = step(coarse, features[level])
        return coarse
