"""A network with up to two early exits that is exported in a second or two."""

from dataclasses import dataclass

from torch import nn

from rtseg.models import MODELS
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
    """Layers `first` to `fourth`; exits behind the second and the third."""

    config_class = TinyExitsConfig
    size_multiple = 32
    logits_stride = 4

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.first, self.second = ConvNormAct(3, 8, stride=2), ConvNormAct(8, 16, stride=2)
        self.third, self.fourth = ConvNormAct(16, 16, stride=2), ConvNormAct(16, 16)
        self.classifier = nn.Conv2d(16, config.classes, 1)
        places = {"encoder/4": (16, 4), "encoder/8": (16, 8)}
        self.exits = ExitHeads(dict(list(places.items())[2 - config.exits :]), config.classes)
        self.early = self.exits.names
        self.auxiliary_weights = tuple(1.0 for _ in self.early)

    def features(self, x):
        at_4 = self.second(self.first(x))
        at_8 = self.third(at_4)
        return {"encoder/4": at_4, "encoder/8": at_8, LAST: self.fourth(upsample2(at_8) + at_4)}

    def auxiliary_logits(self, features):
        return self.exits(features)


def register_tiny_exits():
    """Makes 'tiny-exits' a model of the registry."""
    if "tiny-exits" not in MODELS:
        MODELS.add("tiny-exits", "exit_networks:TinyExits")
