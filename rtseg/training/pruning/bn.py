"""Prunes channels with a small batch norm factor (Liu et al. 2017, "Learning Efficient Convolutional Networks through
Network Slimming", ICCV, arXiv 1708.06519).

The score of channel i is |gamma_i| of the batch norm behind it, not normalised: the paper compares all layers by it
(`--per global`). Channels without a batch norm are never cut.

Deviation: the paper first trains with an L1 penalty on the factors, which rtseg does not have; without it, a network's
factors are less informative.
"""

import torch
from torch import Tensor, nn


def bn(layer: nn.Module, _: torch.Generator) -> Tensor | None:
    """Size of the batch norm's factor (network slimming, Liu 2017)."""
    return layer.weight.detach().abs() if isinstance(layer, nn.BatchNorm2d) else None
