"""PSPNet (Zhao et al. 2017, "Pyramid Scene Parsing Network", CVPR, arXiv 1612.01105).

Deviations from the authors' Caffe network: resizing uses half-pixel centres instead of aligned corners, strides are in
3x3 convolutions (torchvision's ResNet), and the default is a small network: a half-width ResNet-50 with a plain stem
and a head of 128 channels. `encoder=resnet101, deep_stem=true, channels=512` builds the paper's network.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from rtseg.models.base import LAST, initialise
from rtseg.models.blocks import ConvNormAct
from rtseg.models.decoders import Refinement
from rtseg.models.encoders import build_encoder
from rtseg.models.encoders.config import EncoderConfig, encoder_exits
from rtseg.models.encoders.network import EncoderNetwork
from rtseg.models.pyramid import PyramidConcat


@dataclass(frozen=True)
class PSPNetConfig(EncoderConfig):
    """`channels` is the width of each pyramid level and of the convolution behind them (512 in the paper)."""


class PSPNet(EncoderNetwork):
    """Logits at the output stride, or finer (`logits_stride`); the auxiliary classifier behind stage 4 has weight 0.4.

    Example:
        >>> PSPNet(PSPNetConfig(classes=11)).eval()(torch.zeros(1, 3, 256, 512)).shape
        torch.Size([1, 11, 32, 64])
    """

    config_class = PSPNetConfig
    auxiliary_weights: tuple[float, ...] = (0.4,)
    auxiliary_features: tuple[str, ...] = ("encoder/16",)

    def __init__(self, config: PSPNetConfig) -> None:
        super().__init__()
        self.config = config
        self.size_multiple, self.logits_stride = config.size_multiple, config.finest
        encoder = build_encoder(config.encoder, config.options(), config.pretrained)
        middle, deep = encoder.channels[-2:]
        self.pyramid = PyramidConcat(deep, config.channels)
        self.fuse = ConvNormAct(self.pyramid.channels, config.channels)
        self.dropout = nn.Dropout(config.dropout)
        skips = encoder.channels[-4:-1]
        self.refine = Refinement(config.channels, skips, config.output_stride, config.finest)
        self.classifier = nn.Conv2d(self.refine.channels, config.classes, 1)
        self.auxiliary = nn.Sequential(
            ConvNormAct(middle, config.channels), nn.Dropout(config.dropout),
            nn.Conv2d(config.channels, config.classes, 1),
        )  # fmt: skip
        self.exits = encoder_exits(encoder.channels, config)
        self.early = self.exits.names
        self.auxiliary_weights = (*(1.0 for _ in self.early), 0.4)
        self.auxiliary_features = (*self.early, "encoder/16")
        initialise(self)
        self.encoder = encoder  # after initialisation: the encoder has its own, or pretrained weights
        self.normalisation = encoder.normalisation

    def trunk(self) -> list[nn.Module]:
        return [self.encoder]

    def features(self, x: Tensor) -> dict[str, Tensor]:
        seen = self.encoder.named(x)
        stages = tuple(seen.values())
        context = self.fuse(self.pyramid(stages[-1]))  # (N, channels, H/o, W/o) at the output stride
        refined = self.refine(context, stages[-4:-1])  # (N, ·, H/s, W/s)
        return {**seen, "context": context, LAST: self.dropout(refined)}

    def auxiliary_logits(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return *self.exits(features), self.auxiliary(features["encoder/16"])
