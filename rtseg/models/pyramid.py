"""Pyramid pooling (Zhao et al. 2017, "Pyramid Scene Parsing Network", CVPR), in its own form and ICNet's summing form.

Pooling and interpolation are linear and separable, so an export computes each level as U P x Pᵀ Uᵀ, with small matrices
that depend on the shape alone: no adaptive pooling is left in the graph, at any size. Deterministic training does the
same, because CUDA's adaptive pooling has no deterministic gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models.blocks import ConvNormAct, check_batch, pooling_matrix, resize_matrix

BINS = (1, 2, 3, 6)


def by_matrices() -> bool:
    """Whether levels are computed as matrix products instead of torch's kernels, which take half the time."""
    return torch.compiler.is_exporting() or torch.are_deterministic_algorithms_enabled()


def pool_regions(x: Tensor, bins: int) -> Tensor:
    """(N, C, H, W) -> (N, C, bins, bins): averages over equal regions, like adaptive average pooling."""
    if not by_matrices():
        return F.adaptive_avg_pool2d(x, bins)
    return pooling_matrix(x.shape[-2], bins, x) @ x @ pooling_matrix(x.shape[-1], bins, x).T


def spread_regions(level: Tensor, like: Tensor) -> Tensor:
    """(N, C, bins, bins) -> (N, C, H, W) at the size of `like`, bilinear."""
    height, width = like.shape[-2:]
    if not by_matrices():
        return F.interpolate(level, (height, width), mode="bilinear")
    bins = level.shape[-1]
    return resize_matrix(height, bins, level) @ level @ resize_matrix(width, bins, level).T


class PyramidPooling(nn.Module):
    """ICNet's form: adds to x its averages over 1x1, 2x2, 3x3 and 6x6 regions, each interpolated back to x's size."""

    def __init__(self, bins: tuple[int, ...] = BINS) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for bins in self.bins:
            total = total + spread_regions(pool_regions(x, bins), x)
        return total


class PyramidConcat(nn.Module):
    """PSPNet's form: passes each level through a 1x1 convolution, batch norm and ReLU, and concatenates it to x.

    Args:
        inputs: channels of x.
        reduced: channels of each level.
        bins: regions along each side, one number per level.
    """

    def __init__(self, inputs: int, reduced: int, bins: tuple[int, ...] = BINS) -> None:
        super().__init__()
        self.bins = bins
        self.levels = nn.ModuleList(ConvNormAct(inputs, reduced, 1) for _ in bins)
        self.channels = inputs + len(bins) * reduced

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            check_batch(x)
        pooled = (level(pool_regions(x, bins)) for bins, level in zip(self.bins, self.levels, strict=True))
        return torch.cat([x, *(spread_regions(level, x) for level in pooled)], 1)
