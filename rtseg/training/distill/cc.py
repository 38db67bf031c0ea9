"""Matches how classes correlate (correlation congruence: Peng 2019, arXiv 1904.01802).

‖C_s - C_t‖²/n², with C_ij = k(f_i, f_j) the kernel of n features of length 1. The kernel is the paper's Gaussian,
approximated by its Taylor series, exp(-2γ) Σ_p (2γ)^p/p! (f_i·f_j)^p up to p = `order`. The features are class centres,
the mean of each class in each picture, so n is at most classes times pictures. The paper's other part is `logits`.
"""

from dataclasses import dataclass
from math import exp, factorial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import Batch, mean_of
from rtseg.training.distill.pairs import PairConfig, class_means


@dataclass(frozen=True)
class CcConfig(PairConfig):
    """`gamma` and `order` belong to the kernel; the defaults are the paper's values."""

    weight: float = 3.0
    gamma: float = 0.4
    order: int = 2

    allowed: ClassVar = {"gamma": (0.001, 10), "order": (1, 8)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        classes, truth = batch.student.logits.shape[1], batch.truth_at(ours)
        (one, count), (other, _) = (class_means(x, truth, classes) for x in (ours, theirs))
        there = (count > 0).flatten()
        apart = self._kernel(one.flatten(0, 1)) - self._kernel(other.flatten(0, 1))
        return mean_of(apart.square(), there[:, None] & there)

    def _kernel(self, x: Tensor) -> Tensor:
        """(n, D) -> (n, n)."""
        unit = F.normalize(x, dim=1)
        alike = unit @ unit.T
        terms = [(2 * self.gamma) ** p / factorial(p) * alike**p for p in range(self.order + 1)]
        return exp(-2 * self.gamma) * torch.stack(terms).sum(0)
