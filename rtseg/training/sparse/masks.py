"""Masks: which weights of a network are held at zero."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Masks = dict[str, Tensor]
"""Name of a weight -> bool, of its shape: False where it is held at zero."""


def maskable(model: nn.Module) -> dict[str, Tensor]:
    """Weights of all convolutions, except those that see the picture and those of auxiliary classifiers."""
    return {
        f"{name}.weight": layer.weight
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        and layer.in_channels != 3
        and not name.startswith("auxiliary")
    }


@torch.no_grad()
def by_magnitude(model: nn.Module, sparsity: float, before: Masks) -> Masks:
    """Masks the smallest |w| of each layer: int(sparsity * weights) of them.

    Args:
        model: the network.
        sparsity: share of each layer's weights.
        before: current masks, whose zeros stay.
    """
    masks = {}
    for name, weight in maskable(model).items():
        size = weight.abs().flatten()
        if name in before:
            size = size.masked_fill(~before[name].flatten(), -1)
        mask = torch.ones_like(size, dtype=torch.bool)
        mask[size.argsort(stable=True)[: int(sparsity * len(size))]] = False
        masks[name] = mask.view(weight.shape)
    return masks


@torch.no_grad()
def apply(masks: Masks, model: nn.Module) -> None:
    """Sets the masked weights of a network to zero."""
    weights = maskable(model)
    for name, mask in masks.items():
        weights[name].masked_fill_(~mask, 0)


def mask_gradients(masks: Masks, model: nn.Module) -> None:
    """Sets the gradients of masked weights to zero, so that no optimizer remembers them."""
    weights = maskable(model)
    for name, mask in masks.items():
        gradient = weights[name].grad
        if gradient is not None:
            gradient.masked_fill_(~mask, 0)


def zero_share(model: nn.Module, state: Mapping[str, Tensor]) -> float:
    """Share of zeros among the maskable weights of the network's state dict."""
    weights = [state[name] for name in maskable(model)]
    return sum(int((weight == 0).sum()) for weight in weights) / max(1, sum(weight.numel() for weight in weights))
