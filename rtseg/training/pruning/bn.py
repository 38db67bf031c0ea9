"""Channels with a small batch norm factor go (Liu et al. 2017, "Learning Efficient Convolutional Networks through
Network Slimming", ICCV, arXiv 1708.06519).

The score of channel i is |gamma_i| of the batch norm behind it, as it is: the paper compares all layers by it
(`--per global`). Channels without a batch norm are never cut.

Deviation: the paper trains with an L1 penalty on the factors first, which rtseg does not have: without it the factors
of a network say less.
"""

import torch
from torch import Tensor, nn


def bn(layer: nn.Module, _: torch.Generator) -> Tensor | None:
    """Size of the batch norm's factor (network slimming, Liu 2017)."""
    return layer.weight.detach().abs() if isinstance(layer, nn.BatchNorm2d) else None
