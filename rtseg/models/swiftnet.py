"""SwiftNet (Oršić et al. 2019, "In Defense of Pre-trained ImageNet Architectures for Real-time Semantic Segmentation of
Road-driving Images", CVPR, arXiv 1903.08469), in its single-scale form.

A pretrained trunk, pyramid pooling at its end, and a narrow decoder that adds the trunk's features at strides 16, 8 and
4 step by step.

Deviations: the trunk is EfficientNet-Lite0 instead of ResNet-18; its features pass a 1x1 convolution with batch norm
before they are added; the last step is half as wide; the auxiliary classifiers read the decoder at strides 8 and 16.
Two other decoders can replace the authors' (`decoder`): see `rtseg/models/decoders.py`.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import LAST, initialise
from rtseg.models.blocks import ConvNormAct
from rtseg.models.decoders import STEPS
from rtseg.models.encoders import build_encoder
from rtseg.models.encoders.config import EncoderConfig
from rtseg.models.encoders.network import EncoderNetwork
from rtseg.models.exits import ExitHeads
from rtseg.models.pyramid import PyramidConcat

BINS = (1, 2, 4, 8)


@dataclass(frozen=True)
class SwiftNetConfig(EncoderConfig):
    """`channels` is the width of the pyramid and the decoder; the last step, at stride 4, has half as many.

    Attributes:
        decoder: one of `STEPS`.
    """

    encoder: str = "efficientnet_lite0"
    output_stride: int = 32
    dropout: float = 0.0
    decoder: str = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder not in STEPS:
            raise UsageError(f"decoder is {self.decoder!r}: allowed are {', '.join(STEPS)}")
        if self.output_stride != 32 or self.logits_stride not in (None, 4):
            raise UsageError("SwiftNet's decoder goes from stride 32 to 4: leave output_stride and logits_stride out")


class PyramidContext(nn.Sequential):
    """Spatial pyramid pooling: narrows x, then joins it with its averages over 1x1, 2x2, 4x4 and 8x8 regions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        pyramid = PyramidConcat(outputs, outputs // 4, BINS)
        super().__init__(ConvNormAct(inputs, outputs, 1), pyramid, ConvNormAct(pyramid.channels, outputs, 1))


class SwiftNet(EncoderNetwork):
    """Logits at 1/4 of the input; the auxiliary classifiers at 1/8 and 1/16 have weights 0.4 and 0.2.

    Example:
        >>> SwiftNet(SwiftNetConfig(classes=11)).eval()(torch.zeros(1, 3, 256, 512)).shape
        torch.Size([1, 11, 64, 128])
    """

    config_class = SwiftNetConfig
    size_multiple = 32
    logits_stride = 4
    auxiliary_weights: tuple[float, ...] = (0.4, 0.2)
    auxiliary_features: tuple[str, ...] = ("decoder/8", "decoder/16")

    def __init__(self, config: SwiftNetConfig) -> None:
        super().__init__()
        self.config = config
        encoder = build_encoder(config.encoder, config.options(), config.pretrained)
        c4, c8, c16, c32 = encoder.channels[-4:]
        wide, narrow = config.channels, config.channels // 2
        step = STEPS[config.decoder]
        self.context = PyramidContext(c32, wide)
        self.to_16, self.to_8, self.to_4 = step(wide, c16, wide), step(wide, c8, wide), step(wide, c4, narrow)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Conv2d(narrow, config.classes, 1)
        self.auxiliary_8 = nn.Conv2d(wide, config.classes, 1)
        self.auxiliary_16 = nn.Conv2d(wide, config.classes, 1)
        self.exits = ExitHeads({"encoder/16": (c16, 16)} if config.exits else {}, config.classes)
        if config.exits:
            self.early = ("encoder/16", "decoder/8")[: config.exits]
            self.auxiliary_weights = (1.0, 1.0 if config.exits == 2 else 0.4, 0.2)
            self.auxiliary_features = (*self.exits.names, *self.auxiliary_features)
        initialise(self)
        self.encoder = encoder  # after initialisation: the encoder has its own, or pretrained weights
        self.normalisation = encoder.normalisation

    def trunk(self) -> list[nn.Module]:
        return [self.encoder]

    def features(self, x: Tensor) -> dict[str, Tensor]:
        seen = self.encoder.named(x)
        context = self.context(seen["encoder/32"])
        at_16 = self.to_16(context, seen["encoder/16"])  # (N, channels, H/16, W/16)
        at_8 = self.to_8(at_16, seen["encoder/8"])
        fine = self.dropout(self.to_4(at_8, seen["encoder/4"]))  # (N, channels / 2, H/4, W/4)
        return {**seen, "context": context, "decoder/16": at_16, "decoder/8": at_8, LAST: fine}

    def auxiliary_logits(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        at_8, at_16 = self.auxiliary_8(features["decoder/8"]), self.auxiliary_16(features["decoder/16"])
        return *self.exits(features), at_8, at_16
