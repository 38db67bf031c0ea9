"""Matches where features are strong (attention transfer: Zagoruyko and Komodakis 2017, arXiv 1612.03928).

‖Q_s/‖Q_s‖ - Q_t/‖Q_t‖‖, the mean over pictures, with the attention map Q = Σ_c |F_c|^p over a picture's labelled
pixels. Channels may differ; the larger map is averaged to the smaller one's size. The paper sums over several stages of
its networks: `at:features=encoder/8+encoder/16`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import Batch
from rtseg.training.distill.pairs import PairConfig


@dataclass(frozen=True)
class AtConfig(PairConfig):
    """`power` is the p of the attention map."""

    weight: float = 0.3
    power: float = 2.0

    allowed: ClassVar = {"power": (0.5, 8)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        counted = batch.labelled_at(ours).flatten(1)
        maps = [F.normalize(self._map(x) * counted, dim=1) for x in (ours, theirs)]
        return ((maps[0] - maps[1]).square().sum(1) + 1e-12).sqrt().sub(1e-6).mean()

    def _map(self, x: Tensor) -> Tensor:
        return (x.abs() + 1e-6).pow(self.power).sum(1).flatten(1)  # (N, pixels); the root's slope is infinite at 0
