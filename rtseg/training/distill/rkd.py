"""Matches distances and angles between positions (relational knowledge: Park 2019, arXiv 1904.05068).

l(ψ_s, ψ_t) of all pairs, with ψ_ij = ‖f_i - f_j‖/mean, plus `angles` times l of the cosines of the angles at f_j of all
triples, cos ∠ f_i f_j f_k; l is Huber's loss with δ = 1. Both are means, over pairs and triples of different positions.
The positions are the cells of a grid over all pictures of the batch, at most `items`, because the number of triples
grows with its cube.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import Batch, mean_of
from rtseg.training.distill.pairs import PairConfig, both_pooled


@dataclass(frozen=True)
class RkdConfig(PairConfig):
    """`angles` is the paper's weight of the angles; `items` is the maximum number of positions per batch."""

    weight: float = 0.2
    angles: float = 2.0
    items: int = 64

    allowed: ClassVar = {"angles": (0, 1000), "items": (3, 256)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        one, other, there = both_pooled(ours, theirs, batch, self.items)
        pairs = there[:, None] & there & ~torch.eye(len(there), dtype=torch.bool, device=there.device)
        apart = F.huber_loss(distances(one, pairs), distances(other, pairs), reduction="none")
        turned = F.huber_loss(angles(one), angles(other), reduction="none")
        triples = pairs[:, :, None] & pairs[:, None, :] & pairs  # [j, i, k]: at j, between i and k
        return mean_of(apart, pairs) + self.angles * mean_of(turned, triples)


def distances(x: Tensor, pairs: Tensor) -> Tensor:
    """(n, D) -> (n, n): distances, divided by the mean distance over `pairs`."""
    found = ((x[:, None] - x).square().sum(2) + 1e-12).sqrt()
    return found / mean_of(found, pairs).clamp(min=1e-6)


def angles(x: Tensor) -> Tensor:
    """(n, D) -> (n, n, n): [j, i, k] is the cosine of the angle at j between i and k."""
    towards = F.normalize(x - x[:, None], dim=2, eps=1e-6)  # [j, i]: from j to i
    return towards @ towards.transpose(1, 2)
