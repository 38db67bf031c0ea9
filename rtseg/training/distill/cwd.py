"""Matches where in the picture each channel is high (channel-wise distillation: Shu 2021, arXiv 2011.13256).

T²/C Σ_c KL(σ(F_t,c / T) ‖ σ(F_s,c / T)), the mean over pictures; σ is a softmax over the labelled pixels of a channel.
By default on logits, whose channels are classes; other features go through a 1x1 convolution first, as in the paper
(which weights logits by 3 and features by 50). The larger map is averaged to the smaller one's size.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import LOGITS, Batch
from rtseg.training.distill.pairs import PairConfig

_NOWHERE = -1e4  # adds no probability, and no NaN if a whole picture is unlabelled


@dataclass(frozen=True)
class CwdConfig(PairConfig):
    """`temperature` softens the maps (4 in the paper)."""

    features: str = LOGITS
    temperature: float = 2.0

    allowed: ClassVar = {"temperature": (0.1, 100)}

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        counted = batch.labelled_at(ours)[:, None]
        said, taught = (
            (x / self.temperature).masked_fill(~counted, _NOWHERE).flatten(2).log_softmax(2) for x in (ours, theirs)
        )
        apart = F.kl_div(said, taught, reduction="none", log_target=True).sum(2)  # (N, C)
        return self.temperature**2 * apart.mean()
