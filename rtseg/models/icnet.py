"""ICNet: image cascade network (Zhao et al. 2018, "ICNet for Real-Time Semantic Segmentation on High-Resolution
Images", ECCV).

Three branches see the image at 1/4, 1/2 and full size. The low and the medium branch share the first stages of a
half-width ResNet-50, run once at half size; the low branch continues from those features at half their resolution.

Deviations from the authors' Caffe network: resizing uses half-pixel centres instead of aligned corners, and images are
halved by averaging 2x2 pixels. Any encoder that can be cut may replace the ResNet (`encoder`); the cascade stays the
same. With an encoder, the full-size branch may be a copy of the encoder's first layers (`high`), the two small branches
may share more layers (`shared_stride`), and a last step may add the full-size branch's features at stride 4 (`detail`).
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import IMAGENET_STATISTICS, LAST, Normalisation, initialise
from rtseg.models.blocks import ConvNormAct, scaled, upsample2
from rtseg.models.decoders import SumStep
from rtseg.models.encoders import TrunkOptions, build_encoder
from rtseg.models.encoders.network import EncoderNetwork
from rtseg.models.encoders.resnet import CaffeBottleneck, stage
from rtseg.models.exits import check_exits
from rtseg.models.pruned import Width
from rtseg.models.pyramid import PyramidPooling

HIGH = ("plain", "trunk")
_OWN = ("high", "fuse_medium", "fuse_high", "detail", "classifier", "auxiliary_medium", "auxiliary_low")


@dataclass(frozen=True)
class ICNetConfig:
    """The config fields of ICNet.

    Attributes:
        classes: channels of the logits.
        width: factor on the channels of the cascade and of the paper's ResNet; 0.5 is the compressed network that the
            paper reports.
        encoder: trunk of the low and the medium branch, at full width: one of `ENCODERS`; None is the paper's ResNet.
        high: layers of the full-size branch: 'plain' for the paper's three convolutions, 'trunk' for a second copy of
            the encoder's layers up to stride 8, pretrained if the encoder is.
        shared_stride: the low and the medium branch share the encoder's layers up to this stride: 8 as in the paper, or
            16. From there on both compute at stride 8 of their input; 16 makes the medium branch deeper.
        detail: adds a decoder step from stride 8 to 4 with the full-size branch's features; needs high='trunk'.
        exits: early exits besides the network's end: 1, behind the medium branch, or 2, also behind the low one.
        pretrained: initial weights of that encoder: 'imagenet', or the path of a state-dict file. Never stored.
        settings: the encoder's own fields, such as `growth` of a DenseNet (`EncoderNetwork`).
        pruned: the layers that are narrower than the other fields imply, see `rtseg.models.pruned`.
    """

    classes: int = 11
    width: float = 0.5
    encoder: str | None = None
    high: str = "plain"
    shared_stride: int = 8
    detail: bool = False
    pretrained: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    exits: int = 0
    pruned: tuple[Width, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.classes < 1 or not 0.125 <= self.width <= 2:
            raise UsageError(f"ICNet needs classes >= 1 and a width of 0.125 to 2, not {self}")
        if self.pretrained is not None and self.encoder is None:
            raise UsageError("there are no pretrained weights of ICNet's own trunk: name an encoder as well")
        if self.high not in HIGH or (self.high == "trunk" and self.encoder is None):
            raise UsageError(f"high is {self.high!r}: allowed are {' and '.join(HIGH)}, the latter with an encoder")
        if self.shared_stride not in (8, 16) or (self.shared_stride == 16 and self.encoder is None):
            raise UsageError(f"shared_stride is {self.shared_stride}: allowed are 8 and 16, the latter with an encoder")
        if self.detail and self.high != "trunk":
            raise UsageError("detail takes features of the copied trunk at stride 4: set high=trunk as well")
        check_exits(self.exits, most=2)


class Trunk(NamedTuple):
    """The layers of the medium and the low branch.

    Attributes:
        stem: the first layers, which see the image at half size.
        shared: the layers behind the stem that both branches use; they end at stride 8 of their input.
        deep: the low branch's further layers, which keep the size.
        middle: channels behind `shared`.
        outputs: channels behind `deep`.
        normalisation: how images are scaled.
        high: the layers of the full-size branch up to stride 8, if they are copied from an encoder.
        fine: channels of that branch at strides 4 and 8.
        to_4: how many of its layers lead to stride 4.
    """

    stem: nn.Module
    shared: nn.Module
    deep: list[nn.Module]
    middle: int
    outputs: int
    normalisation: Normalisation
    high: nn.Sequential | None = None
    fine: tuple[int, int] = (0, 0)
    to_4: int = 0


def _paper_trunk(width: float) -> Trunk:
    """The authors' ResNet-50 with a deep stem and a dilated last two stages."""
    stem, c2, c3, c4, c5 = (scaled(channels, width) for channels in (64, 256, 512, 1024, 2048))
    first = [ConvNormAct(3, stem, stride=2), ConvNormAct(stem, stem), ConvNormAct(stem, 2 * stem)]
    stage3 = stage(CaffeBottleneck, c2, c3, [1] * 4, stride=2)
    shared = nn.Sequential(*stage(CaffeBottleneck, 2 * stem, c2, [1] * 3), stage3[0])
    deep = [*stage3[1:], *stage(CaffeBottleneck, c3, c4, [2] * 6), *stage(CaffeBottleneck, c4, c5, [4] * 3)]
    return Trunk(nn.Sequential(*first, nn.MaxPool2d(3, 2, 1)), shared, deep, c3, c5, IMAGENET_STATISTICS)


def _encoder_trunk(config: ICNetConfig) -> Trunk:
    assert config.encoder is not None
    encoder = build_encoder(config.encoder, TrunkOptions(output_stride=8, settings=config.settings), config.pretrained)
    shared, deep = encoder.cut(config.shared_stride)
    *_, c4, c8, c16, outputs = encoder.channels
    middle = c8 if config.shared_stride == 8 else c16
    trunk = Trunk(nn.Identity(), shared, [deep], middle, outputs, encoder.normalisation)
    if config.high == "plain":
        return trunk
    return trunk._replace(high=deepcopy(encoder.cut(8)[0]), fine=(c4, c8), to_4=len(encoder.cut(4)[0]))


class CascadeFeatureFusion(nn.Module):
    """CFF: fuses coarse features F1 with features F2 at twice their resolution."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        self.coarse = ConvNormAct(coarse, outputs, 3, dilation=2, act=None)
        self.fine = ConvNormAct(fine, outputs, 1, act=None)

    def forward(self, coarse_up: Tensor, fine: Tensor) -> Tensor:
        """Both (N, ·, H, W); `coarse_up` is F1 after upsampling, which the auxiliary classifier also reads."""
        return F.relu(self.coarse(coarse_up) + self.fine(fine))


class ICNet(EncoderNetwork):
    """Logits at 1/4 of the input; cascade label guidance weights its three outputs 1.0, 0.4 and 0.16.

    Example:
        >>> ICNet(ICNetConfig(classes=11))(torch.zeros(1, 3, 256, 512)).shape
        torch.Size([1, 11, 64, 128])
    """

    config_class = ICNetConfig
    size_multiple = 32
    logits_stride = 4
    auxiliary_weights: tuple[float, ...] = (0.4, 0.16)
    auxiliary_features: tuple[str, ...] = ("fused/medium", "low")

    def __init__(self, config: ICNetConfig) -> None:
        super().__init__()
        self.config = config
        trunk = _paper_trunk(config.width) if config.encoder is None else _encoder_trunk(config)
        stem, fused, head = (scaled(channels, config.width) for channels in (64, 256, 512))
        self.stem, self.shared = trunk.stem, trunk.shared
        self.low = nn.Sequential(*trunk.deep, PyramidPooling(), ConvNormAct(trunk.outputs, head, 1))
        self.high = trunk.high or nn.Sequential(
            ConvNormAct(3, stem, stride=2), ConvNormAct(stem, stem, stride=2), ConvNormAct(stem, 2 * stem, stride=2)
        )
        c4, c8 = trunk.fine if trunk.high else (0, 2 * stem)
        self.fuse_medium = CascadeFeatureFusion(head, trunk.middle, fused)
        self.fuse_high = CascadeFeatureFusion(fused, c8, fused)
        last = fused // 2 if config.detail else fused
        self.detail = SumStep(fused, c4, last) if config.detail else None
        self.classifier = nn.Conv2d(last, config.classes, 1)
        self.auxiliary_medium = nn.Conv2d(fused, config.classes, 1)
        self.auxiliary_low = nn.Conv2d(head, config.classes, 1)
        self.normalisation, self._to_4 = trunk.normalisation, trunk.to_4
        if config.exits:
            self.early = ("low", "fused/medium")[-config.exits :]
            self.auxiliary_weights = (1.0, 1.0) if config.exits == 2 else (1.0, 0.16)
            self.auxiliary_features = ("low", "fused/medium") if config.exits == 2 else self.auxiliary_features
        if config.encoder is None:
            initialise(self)
        else:  # an encoder has its own initialisation, or pretrained weights
            copied = "high" if trunk.high else None
            own = [part for name, part in self.named_children() if name in _OWN and name != copied]
            initialise(nn.ModuleList([self.low[-1], *own]))

    def trunk(self) -> list[nn.Module]:
        return [self.stem, self.shared, self.low[:-2]]  # without pyramid pooling and head

    def trunk_copies(self) -> list[nn.Module]:
        return [self.high] if self.config.high == "trunk" else []

    def _high(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The full-size branch's features at strides 4 and 8."""
        at_4 = x
        for number, layer in enumerate(self.high, 1):
            x = layer(x)
            at_4 = x if number == self._to_4 else at_4
        return at_4, x

    def features(self, x: Tensor) -> dict[str, Tensor]:
        medium = self.shared(self.stem(F.avg_pool2d(x, 2)))  # (N, ·, H/16, W/16)
        low = upsample2(self.low(F.avg_pool2d(medium, 2)))  # computed at H/32, (N, ·, H/16, W/16)
        middle = upsample2(self.fuse_medium(low, medium))  # (N, ·, H/8, W/8)
        at_4, at_8 = self._high(x)
        fused = self.fuse_high(middle, at_8)  # (N, ·, H/8, W/8)
        fine = upsample2(fused) if self.detail is None else self.detail(fused, at_4)  # (N, ·, H/4, W/4)
        return {"medium": medium, "low": low, "high": at_8, "fused/medium": middle, "fused/high": fused, LAST: fine}

    def auxiliary_logits(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        medium, low = self.auxiliary_medium(features["fused/medium"]), self.auxiliary_low(features["low"])
        return (low, medium) if self.config.exits == 2 else (medium, low)
