"""The config fields of networks built on an encoder."""

from dataclasses import dataclass, field
from typing import Any

from rtseg.core.errors import UsageError
from rtseg.models.encoders.base import TrunkOptions
from rtseg.models.exits import COARSEST, ExitHeads, check_exits
from rtseg.models.pruned import Width


@dataclass(frozen=True)
class EncoderConfig:
    """The fields that these networks share.

    Attributes:
        classes: channels of the logits.
        encoder: one of `ENCODERS`, or timm:NAME.
        output_stride: the encoder's last features, and the logits, are this many times smaller than the image. 16 needs
            a third of the arithmetic of 8, but loses details smaller than its cells: labels averaged over cells and
            interpolated back keep a mean IoU of 0.85 at 8 and 0.75 at 16 (CamVid's validation split, 360x480).
        exits: early exits besides the network's end: 1 or 2.
        logits_stride: a decoder (DeepLab-v3+'s, `Refinement`) refines the features to this stride before they are
            classified: 4, 8 or 16, finer than the output stride. None classifies at the output stride, like the papers.
        settings: the encoder's own fields, such as `growth` of a DenseNet (`EncoderNetwork`).
        width: factor on the encoder's channel counts.
        channels: of the head.
        dropout: rate before the classifier.
        deep_stem: three 3x3 convolutions instead of one 7x7 at the start of the encoder (PSPNet's; ResNets only).
        pretrained: initial weights of the encoder: 'imagenet', or the path of a state-dict file. Never stored: a
            rebuilt network gets its own weights.
        pruned: the layers that are narrower than the other fields imply, see `rtseg.models.pruned`.
    """

    classes: int = 11
    encoder: str = "resnet50_half"
    output_stride: int = 8
    width: float = 1.0
    channels: int = 128
    dropout: float = 0.1
    deep_stem: bool = False
    pretrained: str | None = None
    logits_stride: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    exits: int = 0
    pruned: tuple[Width, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.classes < 1 or not 0 <= self.dropout < 1 or self.channels < 1:
            name = type(self).__name__.removesuffix("Config")
            raise UsageError(f"{name} needs classes and channels of at least 1 and a dropout in [0, 1), not {self}")
        check_exits(self.exits, most=2)
        self.options()  # checks the encoder's options
        if self.logits_stride is not None and self.logits_stride not in (4, 8, 16, self.output_stride):
            raise UsageError(f"logits_stride is {self.logits_stride}: allowed are 4, 8 and 16")
        if self.finest > self.output_stride:
            raise UsageError(f"logits_stride is {self.logits_stride}, above the output stride {self.output_stride}: "
                             "leave it out, or give a smaller one")  # fmt: skip

    @property
    def finest(self) -> int:
        """The stride of the logits."""
        return self.logits_stride or self.output_stride

    @property
    def size_multiple(self) -> int:
        """Input sizes are multiples of this, in networks that compute nothing coarser than the output stride."""
        return COARSEST if self.exits else self.output_stride

    def options(self) -> TrunkOptions:
        return TrunkOptions(self.output_stride, self.width, deep_stem=self.deep_stem, settings=self.settings)


def encoder_exits(channels: tuple[int, ...], config: EncoderConfig) -> ExitHeads:
    """Exits for a network whose decoder does not see all depths: at the encoder's stride 16, and at 8 if there are two.

    Args:
        channels: of the encoder.
        config: of the network.
    """
    seen = {f"encoder/{stride}": (channels[level], min(stride, config.output_stride))
            for level, stride in ((-3, 8), (-2, 16))[2 - config.exits :]}  # fmt: skip
    return ExitHeads(seen, config.classes)
