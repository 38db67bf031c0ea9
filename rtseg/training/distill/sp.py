"""Matches which positions of a batch look alike (similarity-preserving: Tung and Mori 2019, arXiv 1907.09682; for
segmentation, pair-wise: Liu 2019, arXiv 1903.04197).

‖G_s - G_t‖²/b, where G = A Aᵀ with rows scaled to length 1, and A holds the features of b positions: the cells of a
grid over all pictures of the batch, at most `items`. The paper divides by b²; here b depends on the pictures' size, and
the mean over rows does not change with it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import Batch, mean_of
from rtseg.training.distill.pairs import PairConfig, both_pooled


@dataclass(frozen=True)
class SpConfig(PairConfig):
    """`items` is the maximum number of positions per batch."""

    items: int = 512

    allowed: ClassVar = {"items": (2, 4096)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        one, other, there = both_pooled(ours, theirs, batch, self.items)
        alike = [F.normalize((x @ x.T) * there, dim=1) for x in (one, other)]
        return mean_of((alike[0] - alike[1]).square().sum(1), there)
