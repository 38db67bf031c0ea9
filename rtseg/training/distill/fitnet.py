"""Matches features by squared distance (FitNets: Romero 2015, arXiv 1412.6550).

½ ‖r(F_s) - F_t‖², the mean over channels and labelled pixels; r is a 1x1 convolution. The larger map is averaged to the
smaller one's size. The paper trains on features first and probabilities afterwards: `fitnet:until=0.3,logits`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rtseg.training.distill.base import Batch, mean_of
from rtseg.training.distill.pairs import PairConfig


@dataclass(frozen=True)
class FitNetConfig(PairConfig):
    """See `PairConfig`."""

    adapted: ClassVar[bool] = True

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return mean_of(0.5 * (ours - theirs).square().mean(1), batch.labelled_at(ours))
