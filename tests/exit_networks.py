"""A network with up to two early exits that exports in a second or two."""

from dataclasses import dataclass

from torch import nn

from rtseg.models.base import LAST, SegmentationModel
from rtseg.models.blocks import ConvNormAct, upsample2
from rtseg.models.exits import ExitHeads, check_exits


@dataclass(frozen=True)
class TinyExitsConfig:
    classes: int = 11
    exits: int = 2

    def __post_init__(self):
        check_exits(self.exits, most=2)


class TinyExits(SegmentationModel):
    """Layers `first` to `fourth`; a head behind the third and, with two exits, a classifier behind the second."""

    config_class = TinyExitsConfig
    size_multiple = 32
    logits_stride = 4

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.first, self.second = ConvNormAct(3, 8, stride=2), ConvNormAct(8, 16, stride=2)
        self.third, self.fourth = ConvNormAct(16, 16, stride=2), ConvNormAct(16, 16)
        self.classifier = nn.Conv2d(16, config.classes, 1)
        self.auxiliary_4 = nn.Conv2d(16, config.classes, 1) if config.exits == 2 else None
        self.exits = ExitHeads({"encoder/8": (16, 8)} if config.exits else {}, config.classes)
        self.early = ("encoder/4", "encoder/8")[2 - config.exits :]
        self.auxiliary_weights = tuple(1.0 for _ in self.early)

    def features(self, x):
        at_4 = self.second(self.first(x))
        at_8 = self.third(at_4)
        return {"encoder/4": at_4, "encoder/8": at_8, LAST: self.fourth(upsample2(at_8) + at_4)}

    def auxiliary_logits(self, features):
        first = () if self.auxiliary_4 is None else (self.auxiliary_4(features["encoder/4"]),)
        return *first, *self.exits(features)


class TinyPooled(TinyExits):
    """The same, with the mean of the whole picture added behind its exits."""

    def features(self, x):
        seen = super().features(x)
        return {**seen, LAST: seen[LAST] + seen["encoder/8"].mean((2, 3), keepdim=True)}
