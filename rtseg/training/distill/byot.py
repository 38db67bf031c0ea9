"""Early exits learn from the last one (be your own teacher: Zhang 2019, arXiv 1905.08094). No teacher.

For each exit i: T² KL(p_last ‖ p_i) + `hints` ½ ‖r_i(F_i) - F_last‖², the mean over labelled pixels and exits, where
the last exit is detached and r_i is a 1x1 convolution. F_i are the features that the exit's classifier reads; the
larger map is averaged to the smaller one's size. Exits are the network's auxiliary outputs, such as ICNet's cascade,
whose cross-entropy is in the loss anyway. A network without them gets exits that do not ship: a 1x1 convolution on each
of its named features but the last, with cross-entropy as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.models.base import LAST, feature_channels
from rtseg.training.distill.base import Batch, MethodConfig, Teaching, channels_of, mean_of
from rtseg.training.distill.logits import divergence
from rtseg.training.distill.pairs import to_smaller


@dataclass(frozen=True)
class ByotConfig(MethodConfig):
    """`hints` is the weight of the features' part; `temperature` softens the probabilities."""

    temperature: float = 2.0
    hints: float = 0.1

    has_teacher: ClassVar[bool] = False
    allowed: ClassVar = {"temperature": (0.1, 100), "hints": (0, 1000)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        own = not student.auxiliary_weights
        names = [name for name in feature_channels(student) if name != LAST] if own else student.auxiliary_features
        if not names:
            raise UsageError(f"byot needs early exits, and {type(student).__name__} has neither auxiliary outputs nor "
                             f"features but {LAST!r}: choose another --teaching")  # fmt: skip
        exits = [(name, channels_of(student, name)) for name in names]
        return ByotTeaching(self, exits, channels_of(student, LAST), student.config.classes if own else 0)


class ByotTeaching(Teaching):
    """The term.

    Args:
        config: of the method.
        exits: name and channels of the features that each exit reads; two exits may read the same.
        last: channels of the last features.
        classes: outputs of exits to add; 0 uses the network's own exits.
    """

    def __init__(self, config: ByotConfig, exits: Sequence[tuple[str, int]], last: int, classes: int) -> None:
        super().__init__()
        self.config, self.names = config, [name for name, _ in exits]
        self.hints = nn.ModuleList(nn.Conv2d(channels, last, 1) for _, channels in exits)
        self.exits = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _, channels in exits) if classes else None

    def forward(self, batch: Batch) -> Tensor:
        outputs, temperature = batch.student, self.config.temperature
        early: Sequence[Tensor] = outputs.auxiliary
        total = torch.zeros((), device=batch.images.device)
        if self.exits is not None:
            early = [exit_(outputs.features[name]) for exit_, name in zip(self.exits, self.names, strict=True)]
            for logits in early:
                truth = batch.truth_at(logits)
                apart = F.cross_entropy(logits.float(), truth, ignore_index=batch.ignore_index, reduction="none")
                total = total + mean_of(apart, truth != batch.ignore_index)
        last, features = outputs.logits.detach().float(), outputs.features[LAST].detach().float()
        for name, hint, logits in zip(self.names, self.hints, early, strict=True):
            said, taught = to_smaller(logits.float(), last)
            total = total + divergence((taught / temperature).softmax(1), said, batch.labelled_at(said), temperature)
            ours, deep = to_smaller(outputs.features[name].float(), features)
            apart = 0.5 * (hint(ours).float() - deep).square().mean(1)
            total = total + self.config.hints * mean_of(apart, batch.labelled_at(deep))
        return total / len(self.names)
