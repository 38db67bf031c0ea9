"""Matches the distribution of channel maps (neuron selectivity transfer: Huang and Wang 2017, arXiv 1707.01219).

MMD² = mean k(t, t') + mean k(s, s') - 2 mean k(t, s) over all pairs of channels, the mean over pictures, with the
polynomial kernel k(x, y) = (x·y)² of channel maps of length 1. Channels may differ; maps are averaged to the smaller
one's size and to a grid of at most `items` cells, over a picture's labelled pixels.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import Batch
from rtseg.training.distill.pairs import PairConfig, pooled


@dataclass(frozen=True)
class NstConfig(PairConfig):
    """`items` is the maximum number of cells per picture."""

    items: int = 1024

    allowed: ClassVar = {"items": (1, 4096)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        one, other = (self._maps(x, batch.labelled_at(ours)) for x in (ours, theirs))
        return (alike(other, other) + alike(one, one) - 2 * alike(other, one)).mean()

    def _maps(self, x: Tensor, counted: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, cells), each of length 1."""
        cells, there = pooled(x, counted, self.items * len(x))
        maps = (cells * there[:, None]).reshape(len(x), -1, x.shape[1]).transpose(1, 2)
        return F.normalize(maps, dim=2)


def alike(one: Tensor, other: Tensor) -> Tensor:
    """(N, C, cells) and (N, D, cells) -> (N,): the mean of the kernel over all pairs."""
    return (one @ other.transpose(1, 2)).square().mean((1, 2))
