"""Prunes small filters (Li et al. 2017, "Pruning Filters for Efficient ConvNets", ICLR, arXiv 1608.08710).

The score of filter i, with weights w_i over inputs and kernel, is |w_i|_p / mean_j |w_j|_p, with p = 1 as in the paper
or p = 2. The paper compares only filters of the same layer, for which the divisor makes no difference; it makes layers
comparable, for channels that several layers compute and for `--per global`.

Deviation: if several layers compute the same channel, as in a residual sum, their scores are averaged; in the paper the
projection shortcut decides.
"""

import torch
from torch import Tensor, nn


def l1(layer: nn.Module, _: torch.Generator) -> Tensor | None:
    """Sum of the absolute weights of the filter, over the layer's mean (Li 2017)."""
    return _norms(layer, 1)


def l2(layer: nn.Module, _: torch.Generator) -> Tensor | None:
    """Euclidean norm of the filter, over the layer's mean."""
    return _norms(layer, 2)


def _norms(layer: nn.Module, power: int) -> Tensor | None:
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return None
    filters = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
    norms = torch.linalg.vector_norm(filters.detach().float().flatten(1), power, dim=1)
    scores: Tensor = norms / norms.mean().clamp(min=1e-12)
    return scores
