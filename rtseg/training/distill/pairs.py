"""Methods that compare features of the student with features of its teachers, pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.models.base import LAST
from rtseg.training.distill.base import LOGITS, Batch, MethodConfig, Teaching, Terms, channels_of


class Pair(NamedTuple):
    """Names of the student's and a teacher's features, and their channel counts."""

    ours: str
    theirs: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class PairConfig(MethodConfig):
    """A method that compares pairs of features; its term is the mean over pairs and teachers.

    Attributes:
        features: names of the student's features, joined by +; 'logits' stands for its logits.
        theirs: names of the teachers' features to compare them with, in the same order; if empty, the same names.
    """

    features: str = LAST
    theirs: str = ""

    adapted: ClassVar[bool] = False
    """Whether a 1x1 convolution first brings the student's features to the teacher's channels."""

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return PairTeaching(self, [self.pairs(student, teacher) for teacher in teachers])

    def pairs(self, student: SegmentationModel, teacher: SegmentationModel) -> list[Pair]:
        """The pairs for one teacher; raises UsageError if a network lacks features."""
        ours, theirs = self.features.split("+"), (self.theirs or self.features).split("+")
        if len(ours) != len(theirs):
            raise UsageError(f"features={self.features} and theirs={self.theirs} name {len(ours)} and {len(theirs)} "
                             "features: name as many in both")  # fmt: skip
        return [
            Pair(one, other, channels_of(student, one), channels_of(teacher, other))
            for one, other in zip(ours, theirs, strict=True)
        ]

    def compare(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        """The term of a pair, a scalar.

        Args:
            ours: the student's, float32 (N, ·, h, w), behind the adapter if there is one.
            theirs: the teacher's, float32 (N, ·, h, w) of the same size, without gradients.
            batch: says which pixels are labelled.
        """
        raise NotImplementedError


class PairTeaching(Teaching):
    """The mean of the pairs' terms, in float32.

    Args:
        config: compares a pair.
        pairs: the pairs of each teacher.
    """

    def __init__(self, config: PairConfig, pairs: list[list[Pair]]) -> None:
        super().__init__()
        self.config, self.pairs = config, pairs
        if config.adapted:
            self.adapters = nn.ModuleList(nn.Conv2d(p.inputs, p.outputs, 1) for group in pairs for p in group)

    def forward(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.images.device.type, enabled=False):
            terms: list[Tensor] = []
            for ours, theirs in features_of(batch, self.pairs):
                if self.config.adapted:
                    ours = self.adapters[len(terms)](ours)
                terms.append(self.config.compare(ours, theirs, batch))
            return torch.stack(terms).mean()


class LearnedPairs(Teaching):
    """Pairs that each have their own `layers`, beyond an adapter."""

    def __init__(self, pairs: list[list[Pair]], layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.pairs, self.layers = pairs, nn.ModuleList(layers)

    def forward(self, batch: Batch) -> Tensor | Terms:
        with torch.autocast(batch.images.device.type, enabled=False):
            found = features_of(batch, self.pairs)
            given = [self.term(layer, *pair, batch) for layer, pair in zip(self.layers, found, strict=True)]
        terms = [entry.term if isinstance(entry, Terms) else entry for entry in given]
        own = [entry.own for entry in given if isinstance(entry, Terms)]
        mean = torch.stack(terms).mean()
        return Terms(mean, torch.stack(own).mean()) if own else mean

    def term(self, layer: nn.Module, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor | Terms:
        """See `PairConfig.compare`; `layer` is the pair's."""
        raise NotImplementedError


def features_of(batch: Batch, pairs: list[list[Pair]]) -> list[tuple[Tensor, Tensor]]:
    """Each pair's features in float32, the student's first, both at the size of the smaller map."""
    ours = {**batch.student.features, LOGITS: batch.student.logits}
    found = []
    for group, (logits, features) in zip(pairs, batch.seen, strict=True):
        theirs = {**features, LOGITS: logits}
        found += [to_smaller(ours[pair.ours].float(), theirs[pair.theirs].float()) for pair in group]
    return found


def to_smaller(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both (N, ·, h, w) at the smaller height and width, averaged over areas."""
    size = (min(one.shape[-2], other.shape[-2]), min(one.shape[-1], other.shape[-1]))
    small, small_other = (x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, size) for x in (one, other))
    return small, small_other


def pooled(x: Tensor, counted: Tensor, items: int) -> tuple[Tensor, Tensor]:
    """Averages features over a bounded number of cells: the finest grid with at most `items` cells.

    Args:
        x: float (N, C, h, w).
        counted: bool (N, h, w), the pixels that count.
        items: maximum number of cells over the whole batch, but at least one per picture.

    Returns:
        The mean of each cell's counted pixels, (M, C), and whether it has any, bool (M,).
    """
    count, _, height, width = x.shape
    scale = min(1.0, (items / (count * height * width)) ** 0.5)
    grid = (max(1, int(height * scale)), max(1, int(width * scale)))
    share = F.adaptive_avg_pool2d(counted[:, None].float(), grid)
    means = F.adaptive_avg_pool2d(x * counted[:, None], grid) / share.clamp(min=1e-6)
    return means.permute(0, 2, 3, 1).flatten(0, 2), share.flatten() > 0


def both_pooled(ours: Tensor, theirs: Tensor, batch: Batch, items: int) -> tuple[Tensor, Tensor, Tensor]:
    """`pooled` for a pair: vectors (M, ·) and (M, ·), and which of them count, bool (M,)."""
    counted = batch.labelled_at(ours)
    one, there = pooled(ours, counted, items)
    return one, pooled(theirs, counted, items)[0], there


def class_means(x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The mean of the features of each class in each picture.

    Args:
        x: float (N, D, h, w).
        labels: int64 (N, h, w); values from `classes` on are ignored.
        classes: number of classes.

    Returns:
        Means, (N, classes, D), 0 if a class does not occur; the number of pixels of each, (N, classes).
    """
    member = class_members(labels, classes).flatten(2)  # (N, classes, pixels)
    count = member.sum(2)
    return member @ x.flatten(2).transpose(1, 2) / count[..., None].clamp(min=1), count


def class_members(labels: Tensor, classes: int) -> Tensor:
    """int64 (N, h, w) -> float32 (N, classes, h, w): 1 where a pixel has the class."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)[:, None, None]).float()
