"""ENet (Paszke et al. 2016, "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
arXiv 1606.02147).

Deviation from the authors' Torch network: max unpooling multiplies by a mask of the maxima instead of scattering by
index. The result is bit-equal, exports to plain ONNX operators and keeps any memory layout an engine prefers.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import LAST, SegmentationModel, initialise
from rtseg.models.exits import COARSEST, ExitHeads, check_exits
from rtseg.models.pruned import Width


@dataclass(frozen=True)
class ENetConfig:
    """The config fields of ENet.

    Attributes:
        classes: channels of the logits.
        dropout: rate of the spatial dropout in sections 2 to 5; section 1 uses a tenth of it.
        exits: early exits besides the network's end: 1, behind the encoder, or 2, also behind its section 2. The
            encoder alone has at most one, behind section 2.
        pruned: the layers that are narrower than the paper's, see `rtseg.models.pruned`.
    """

    classes: int = 11
    dropout: float = 0.1
    exits: int = 0
    pruned: tuple[Width, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.classes < 1 or not 0 <= self.dropout < 1:
            raise UsageError(f"ENet needs classes >= 1 and a dropout in [0, 1), not {self}")
        check_exits(self.exits, most=2)


def max_pool_mask(x: Tensor) -> tuple[Tensor, Tensor]:
    """2x2 max pooling that also returns where the maxima were.

    Args:
        x: (N, C, 2h, 2w).

    Returns:
        The maxima (N, C, h, w), and a mask (N, C, 2h, 2w) of x's dtype: 1 at the first position of each 2x2 window, in
        row-major order, that holds its maximum; 0 elsewhere.
    """
    maxima = F.max_pool2d(x, 2)
    ranked = (x == double(maxima)).to(x.dtype) * window_ranks(x)
    return maxima, (ranked == double(F.max_pool2d(ranked, 2))).to(x.dtype)


def max_unpool_mask(x: Tensor, mask: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, 2h, 2w): puts each value where its window's mask is 1, and 0 elsewhere.

    Bit-equal to `max_unpool2d` with the indices of the pooling that made the mask.
    """
    return double(x) * mask


def double(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, 2h, 2w): each value fills a 2x2 window."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def window_ranks(like: Tensor) -> Tensor:
    """(H, W), dtype of `like`: 4, 3 in the upper row of each 2x2 window, 2, 1 in the lower one."""
    row, column = (torch.arange(size, device=like.device) % 2 for size in like.shape[-2:])
    return (4 - 2 * row[:, None] - column).to(like.dtype)


def norm_act(channels: int, relu: bool) -> list[nn.Module]:
    """Batch norm, then ReLU (decoder) or PReLU with a slope for each channel (encoder)."""
    return [nn.BatchNorm2d(channels), nn.ReLU() if relu else nn.PReLU(channels)]


class InitialBlock(nn.Module):
    """13 channels from a 3x3 stride-2 convolution beside the 3 max-pooled input channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 13, 3, 2, 1, bias=False)
        self.norm_act = nn.Sequential(*norm_act(16, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.norm_act(torch.cat([self.convolution(x), F.max_pool2d(x, 2)], 1))
        return joined


class Bottleneck(nn.Module):
    """Regular, dilated or asymmetric bottleneck: 1x1 to a quarter width, main convolution, 1x1 back, added to x."""

    def __init__(
        self, channels: int, dropout: float, dilation: int = 1, asymmetric: bool = False, relu: bool = False
    ) -> None:
        super().__init__()
        inner = channels // 4
        if asymmetric:
            main: list[nn.Module] = [
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            ]
        else:
            main = [nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)]
        self.residual = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), *norm_act(inner, relu),
            *main, *norm_act(inner, relu),
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.Dropout2d(dropout),
        )  # fmt: skip
        self.act = nn.ReLU() if relu else nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.act(x + self.residual(x))
        return summed


class DownsamplingBottleneck(nn.Module):
    """Halves the size: max pooling with zero-padded channels beside a bottleneck that starts with 2x2 stride 2."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, inner, 2, 2, bias=False), *norm_act(inner, False),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False), *norm_act(inner, False),
            nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.Dropout2d(dropout),
        )  # fmt: skip
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, inputs, 2h, 2w) -> (N, outputs, h, w) and the pooling mask."""
        pooled, mask = max_pool_mask(x)
        residual = self.residual(x)
        padded = F.pad(pooled, (0, 0, 0, 0, 0, residual.shape[1] - pooled.shape[1]))
        return self.act(padded + residual), mask


class UpsamplingBottleneck(nn.Module):
    """Doubles the size: 1x1 convolution and max unpooling beside a bottleneck with a transposed convolution."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        self.main = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False), *norm_act(inner, True),
            nn.ConvTranspose2d(inner, inner, 3, 2, 1, output_padding=1, bias=False), *norm_act(inner, True),
            nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.Dropout2d(dropout),
        )  # fmt: skip

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return F.relu(max_unpool_mask(self.main(x), mask) + self.residual(x))


def section(dropout: float) -> list[nn.Module]:
    """The eight bottlenecks of section 2, and of section 3."""
    kinds = [(1, False), (2, False), (1, True), (4, False), (1, False), (8, False), (1, True), (16, False)]
    return [Bottleneck(128, dropout, dilation, asymmetric) for dilation, asymmetric in kinds]


class _Encoding(SegmentationModel):
    """The encoder, shared by the two networks below under the same parameter names."""

    config_class = ENetConfig

    def __init__(self, config: ENetConfig) -> None:
        super().__init__()
        self.config = config
        self.size_multiple = COARSEST if config.exits else 8
        dropout = config.dropout
        self.initial = InitialBlock()
        self.down1 = DownsamplingBottleneck(16, 64, dropout / 10)
        self.section1 = nn.Sequential(*(Bottleneck(64, dropout / 10) for _ in range(4)))
        self.down2 = DownsamplingBottleneck(64, 128, dropout)
        self.section2 = nn.Sequential(*section(dropout))
        self.section3 = nn.Sequential(*section(dropout))

    def encode(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Returns the encoder's features, and the masks of the poolings to 1/4 and to 1/8."""
        x = self.initial(x)  # (N, 16, H/2, W/2)
        x, mask4 = self.down1(x)
        at_4 = self.section1(x)  # (N, 64, H/4, W/4)
        x, mask8 = self.down2(at_4)
        section2 = self.section2(x)  # (N, 128, H/8, W/8), as is everything after it
        return {"encoder/4": at_4, "section2": section2, "encoder/8": self.section3(section2)}, mask4, mask8

    def exit_at(self, names: tuple[str, ...]) -> None:
        """Adds early exits on features at 1/8."""
        self.exits = ExitHeads(dict.fromkeys(names, (128, 8)), self.config.classes)
        self.early = self.auxiliary_features = names
        self.auxiliary_weights = tuple(1.0 for _ in names)

    def auxiliary_logits(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        logits: tuple[Tensor, ...] = self.exits(features)
        return logits


class ENetEncoder(_Encoding):
    """The encoder with a 1x1 classifier, which the paper trains first, on labels at 1/8 size (section 5.1).

    `rtseg train --model enet --init ENCODER.onnx` then adds the decoder and trains on.
    """

    logits_stride = 8

    def __init__(self, config: ENetConfig) -> None:
        super().__init__(config)
        check_exits(config.exits, most=1)
        self.exit_at(("section2",)[: config.exits])
        self.classifier = nn.Conv2d(128, config.classes, 1, bias=False)
        initialise(self)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        seen, _, _ = self.encode(x)
        return {**seen, LAST: seen["encoder/8"]}


class ENet(_Encoding):
    """Large encoder, small decoder; logits at the input size.

    Example:
        >>> ENet(ENetConfig(classes=11))(torch.zeros(1, 3, 256, 512)).shape
        torch.Size([1, 11, 256, 512])
    """

    logits_stride = 1

    def __init__(self, config: ENetConfig) -> None:
        super().__init__(config)
        dropout = config.dropout
        self.up4 = UpsamplingBottleneck(128, 64, dropout)
        self.section4 = nn.Sequential(*(Bottleneck(64, dropout, relu=True) for _ in range(2)))
        self.up5 = UpsamplingBottleneck(64, 16, dropout)
        self.section5 = Bottleneck(16, dropout, relu=True)
        self.exit_at(("section2", "encoder/8")[2 - config.exits :])
        self.classifier = nn.ConvTranspose2d(16, config.classes, 3, 2, 1, output_padding=1, bias=False)
        initialise(self)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        seen, mask4, mask8 = self.encode(x)
        back_4 = self.section4(self.up4(seen["encoder/8"], mask8))  # (N, 64, H/4, W/4)
        back_2 = self.section5(self.up5(back_4, mask4))  # (N, 16, H/2, W/2)
        return {**seen, "decoder/4": back_4, LAST: back_2}
