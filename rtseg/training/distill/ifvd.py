"""Matches how close each pixel is to the centre of its class (intra-class feature variation: Wang 2020, ECCV; the
structured form for segmentation).

(cos(f_s, c_s) - cos(f_t, c_t))², the mean over labelled pixels, where c is the mean of the features of the pixel's
class in its picture. Channels may differ, and the cost is linear in the number of pixels. The larger map is averaged to
the smaller one's size.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from rtseg.training.distill.base import Batch, mean_of
from rtseg.training.distill.pairs import PairConfig, class_means, class_members


@dataclass(frozen=True)
class IfvdConfig(PairConfig):
    """See `PairConfig`."""

    weight: float = 10.0

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        classes, truth = batch.student.logits.shape[1], batch.truth_at(ours)
        close = [closeness(x, truth, classes) for x in (ours, theirs)]
        return mean_of((close[0] - close[1]).square(), batch.labelled_at(ours))


def closeness(x: Tensor, truth: Tensor, classes: int) -> Tensor:
    """(N, D, h, w) -> (N, h, w): cosine between each pixel's features and its class's centre; 0 without a class."""
    means, _ = class_means(x, truth, classes)  # (N, classes, D)
    own = means.transpose(1, 2) @ class_members(truth, classes).flatten(2)
    return F.cosine_similarity(x, own.reshape(x.shape), dim=1)
