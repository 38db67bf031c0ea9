"""Prunes random channels: the baseline that any other method must beat."""

import torch
from torch import Tensor, nn


def random(layer: nn.Module, generator: torch.Generator) -> Tensor | None:
    """By lot, after --seed: the baseline."""
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return None
    return torch.rand(layer.out_channels, generator=generator)
