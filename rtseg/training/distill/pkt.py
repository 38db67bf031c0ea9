"""Matches the probability that two positions are neighbours (probabilistic knowledge transfer: Passalis and Tefas 2018,
arXiv 1803.10837).

Σ_j p_t(j|i) log(p_t(j|i) / p_s(j|i)), the mean over i, with p(j|i) = K_ij / Σ_{j≠i} K_ij and the kernel K_ij = (1 +
cos(f_i, f_j)) / 2. The positions are the cells of a grid over all pictures of the batch, at most `items`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import Batch, mean_of
from rtseg.training.distill.pairs import PairConfig, both_pooled


@dataclass(frozen=True)
class PktConfig(PairConfig):
    """`items` is the maximum number of positions per batch."""

    weight: float = 50.0
    items: int = 1024

    allowed: ClassVar = {"items": (3, 4096)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        one, other, there = both_pooled(ours, theirs, batch, self.items)
        pairs = there[:, None] & there & ~torch.eye(len(there), dtype=torch.bool, device=there.device)
        said, taught = neighbours(one, pairs), neighbours(other, pairs)
        return mean_of((taught * (taught / said).log() * pairs).sum(1), there)


def neighbours(x: Tensor, pairs: Tensor) -> Tensor:
    """(n, D) -> (n, n): the probability that j is a neighbour of i, over the pairs in `pairs`."""
    unit = F.normalize(x, dim=1)
    kernel = (0.5 + 0.5 * unit @ unit.T).clamp(min=1e-6)
    return kernel / (kernel * pairs).sum(1, keepdim=True).clamp(min=1e-6)
