"""Matches how two features correlate (flow of solution procedure: Yim 2017, CVPR).

‖G_s - G_t‖², the mean over entries and pictures, with G = F_1ᵀ F_2/(hw) of two features of a network over a picture's
labelled pixels, (C_1, C_2). 1x1 convolutions bring both of the student's features to the teacher's channels; all maps
are averaged to the smallest one's size. The default is the first and the last of a network's named features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.models.base import LAST, feature_channels
from rtseg.training.distill.base import Batch, Teaching
from rtseg.training.distill.pairs import Pair, PairConfig, features_of


@dataclass(frozen=True)
class FspConfig(PairConfig):
    """`features` and `theirs` name two features each; if empty, the network's first and last named features."""

    features: str = ""

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        pairs = []
        for teacher in teachers:
            names = [given or ends(network) for given, network in
                     ((self.features, student), (self.theirs or self.features, teacher))]  # fmt: skip
            pairs.append(PairConfig(features=names[0], theirs=names[1]).pairs(student, teacher))
            if len(pairs[-1]) != 2:
                raise UsageError(f"fsp compares two features with two, not {names[0]} with {names[1]}: "
                                 "name two, such as features=encoder/8+last")  # fmt: skip
        return FspTeaching(pairs)


def ends(network: SegmentationModel) -> str:
    """Names of a network's first and last features; raises UsageError if it has only one."""
    first = next(iter(feature_channels(network)))
    if first == LAST:
        raise UsageError(f"fsp needs two features, and {type(network).__name__} names only {LAST!r}")
    return f"{first}+{LAST}"


class FspTeaching(Teaching):
    """The loss term, with two adapters per teacher."""

    def __init__(self, pairs: list[list[Pair]]) -> None:
        super().__init__()
        self.pairs = pairs
        self.adapters = nn.ModuleList(nn.Conv2d(p.inputs, p.outputs, 1) for group in pairs for p in group)

    def forward(self, batch: Batch) -> Tensor:
        terms = []
        with torch.autocast(batch.images.device.type, enabled=False):
            found = features_of(batch, self.pairs)
            for index in range(0, len(found), 2):
                (ours, theirs), (ours_2, theirs_2) = found[index : index + 2]
                one = flow(self.adapters[index](ours), self.adapters[index + 1](ours_2), batch)
                terms.append((one - flow(theirs, theirs_2, batch)).square().mean())
        return torch.stack(terms).mean()


def flow(one: Tensor, other: Tensor, batch: Batch) -> Tensor:
    """(N, C, h, w) and (N, D, h', w') -> (N, C, D)."""
    size = (min(one.shape[-2], other.shape[-2]), min(one.shape[-1], other.shape[-1]))
    one, other = (F.adaptive_avg_pool2d(x, size) for x in (one, other))
    counted = batch.labelled_at(one)[:, None]
    return (one * counted).flatten(2) @ other.flatten(2).transpose(1, 2) / (size[0] * size[1])
