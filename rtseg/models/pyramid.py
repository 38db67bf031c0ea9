"""Pyramid pooling (Zhao et al. 2017, "Pyramid Scene Parsing Network", CVPR), in the summing form of ICNet."""

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models.blocks import pooling_matrix, resize_matrix


class PyramidPooling(nn.Module):
    """Adds to x its averages over 1x1, 2x2, 3x3 and 6x6 regions, each interpolated back to x's size.

    Pooling and interpolation are linear and separable, so in evaluation each level is U P x Pᵀ Uᵀ with small
    matrices that follow from the shape alone: no adaptive pooling is left to export, at any size.
    """

    def __init__(self, bins: tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            size = x.shape[-2:]
            levels = (F.interpolate(F.adaptive_avg_pool2d(x, b), size, mode="bilinear") for b in self.bins)
            return x + sum(levels)
        height, width = x.shape[-2:]
        total = x
        for bins in self.bins:
            pooled = pooling_matrix(height, bins, x) @ x @ pooling_matrix(width, bins, x).T  # (N, C, b, b)
            total = total + resize_matrix(height, bins, x) @ pooled @ resize_matrix(width, bins, x).T
        return total
