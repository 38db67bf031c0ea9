"""DeepLab-v3 (Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation", arXiv 1706.05587).

Deviations from the paper: strides are in 3x3 convolutions (torchvision's ResNet), and the default is a small network: a
half-width ResNet-50 whose 3x3 branches are depthwise separable (as in the authors' DeepLab-v3+, Chen et al. 2018),
because 3x3 convolutions on 1024 channels would have more weights than the whole trunk. `encoder=resnet101,
separable=false, output_stride=16` builds the paper's network.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import LAST, initialise
from rtseg.models.blocks import ConvNormAct, check_batch
from rtseg.models.decoders import Refinement
from rtseg.models.encoders import Encoder, TrunkOptions, build_encoder
from rtseg.models.encoders.config import EncoderConfig, encoder_exits
from rtseg.models.encoders.network import EncoderNetwork
from rtseg.models.encoders.resnet import ResNet, stage

FORMS = ("aspp", "cascade")
MULTI_GRID = (1, 2, 4)
GRIDDED = ("resnet34", "resnet50", "resnet50_half", "resnet101", "seresnet34", "seresnet50", "seresnet101")
"""Encoders whose last stage has three blocks."""


@dataclass(frozen=True)
class DeepLabV3Config(EncoderConfig):
    """The config fields beyond those of `EncoderConfig`.

    Attributes:
        channels: width of each branch of the pyramid (256 in the paper).
        form: 'aspp' for atrous spatial pyramid pooling, 'cascade' for blocks 5 to 7 with growing rates.
        rates: of the 3x3 branches at output stride 16; doubled at 8, halved at 32.
        separable: whether the 3x3 branches are depthwise separable.
        multi_grid: unit rates in the last stage and in blocks 5 to 7; None is (1, 2, 4) for `GRIDDED` encoders and
            leaves others unchanged.
    """

    channels: int = 256
    form: str = "aspp"
    rates: tuple[int, ...] = (6, 12, 18)
    separable: bool = True
    multi_grid: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise UsageError(f"form is {self.form!r}: allowed are {', '.join(FORMS)}")
        if not self.rates or any(rate < 2 for rate in self.rates):
            raise UsageError(f"rates is {self.rates}: at least one rate of 2 or more is needed")

    def options(self) -> TrunkOptions:
        return replace(super().options(), multi_grid=self.grid)

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The unit rates in use."""
        return MULTI_GRID if self.multi_grid is None and self.encoder in GRIDDED else self.multi_grid


class AtrousPyramid(nn.Module):
    """ASPP: a 1x1 convolution, 3x3 convolutions at several rates and the mean over the whole image, each with batch
    norm and ReLU, joined by a 1x1 convolution.

    At a rate close to the feature map's size, only the centre of a 3x3 convolution falls inside it; the image mean
    restores the lost context.
    """

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...], separable: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList([
            ConvNormAct(inputs, outputs, 1), *(_branch(inputs, outputs, rate, separable) for rate in rates)
        ])  # fmt: skip
        self.picture = ConvNormAct(inputs, outputs, 1)
        self.project = ConvNormAct((len(rates) + 2) * outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            check_batch(x)
        picture = self.picture(x.mean((2, 3), keepdim=True))  # (N, outputs, 1, 1)
        features = [*(branch(x) for branch in self.branches), picture.expand(-1, -1, *x.shape[-2:])]
        joined: Tensor = self.project(torch.cat(features, 1))
        return joined


def _branch(inputs: int, outputs: int, rate: int, separable: bool) -> nn.Module:
    if not separable:
        return ConvNormAct(inputs, outputs, 3, dilation=rate)
    return nn.Sequential(
        ConvNormAct(inputs, inputs, 3, dilation=rate, groups=inputs), ConvNormAct(inputs, outputs, 1)
    )  # fmt: skip


def cascade(encoder: Encoder, name: str, rate: int, grid: tuple[int, ...]) -> nn.Sequential:
    """Blocks 5 to 7: copies of a ResNet's last stage, each at twice the rate of the previous one.

    Args:
        encoder: the encoder with that last stage.
        name: its name, for the error message.
        rate: dilation rate of its last stage.
        grid: unit rates of each block.
    """
    if not isinstance(encoder, ResNet):
        raise UsageError(f"form 'cascade' repeats the last stage of a ResNet, which {name} is not; use form 'aspp'")
    deep = encoder.channels[-1]
    rates = [[rate * 2**block * unit for unit in grid] for block in (1, 2, 3)]
    return nn.Sequential(*(nn.Sequential(*stage(encoder.block, deep, deep, units)) for units in rates))


class DeepLabV3(EncoderNetwork):
    """Logits at the output stride or, with `logits_stride` (DeepLab-v3+), finer.

    Example:
        >>> DeepLabV3(DeepLabV3Config(classes=11)).eval()(torch.zeros(1, 3, 256, 512)).shape
        torch.Size([1, 11, 32, 64])
    """

    config_class = DeepLabV3Config

    def __init__(self, config: DeepLabV3Config) -> None:
        super().__init__()
        self.config = config
        self.size_multiple, self.logits_stride = config.size_multiple, config.finest
        encoder = build_encoder(config.encoder, config.options(), config.pretrained)
        deep = encoder.channels[-1]
        if config.form == "aspp":
            rates = tuple(rate * 16 // config.output_stride for rate in config.rates)
            self.context: nn.Module = AtrousPyramid(deep, config.channels, rates, config.separable)
            deep = config.channels
        else:
            self.context = cascade(encoder, config.encoder, 32 // config.output_stride, config.grid or (1, 1, 1))
        self.dropout = nn.Dropout(config.dropout)
        self.refine = Refinement(deep, encoder.channels[-4:-1], config.output_stride, config.finest)
        self.classifier = nn.Conv2d(self.refine.channels, config.classes, 1)
        self.exits = encoder_exits(encoder.channels, config)
        self.early = self.auxiliary_features = self.exits.names
        self.auxiliary_weights = tuple(1.0 for _ in self.early)
        initialise(self)
        self.encoder = encoder  # after initialisation: the encoder has its own, or pretrained weights
        self.normalisation = encoder.normalisation

    def trunk(self) -> list[nn.Module]:
        return [self.encoder]

    def features(self, x: Tensor) -> dict[str, Tensor]:
        seen = self.encoder.named(x)
        stages = tuple(seen.values())
        context = self.context(stages[-1])  # (N, ·, H/o, W/o) at the output stride
        refined = self.refine(context, stages[-4:-1])  # (N, ·, H/s, W/s)
        return {**seen, "context": context, LAST: self.dropout(refined)}

    def auxiliary_logits(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        logits: tuple[Tensor, ...] = self.exits(features)
        return logits
