"""Blocks that several networks share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, and `act` unless it is None; keeps the size at stride 1."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1,
        act: type[nn.Module] | None = nn.ReLU,
    ) -> None:  # fmt: skip
        padding = dilation * (kernel // 2)
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([act(inplace=True)] if act else []))


def scaled(channels: int, width: float) -> int:
    """Returns `channels` times `width`, rounded to a multiple of 8."""
    return max(8, round(channels * width / 8) * 8)


def check_batch(x: Tensor) -> None:
    """Raises UsageError for a batch of one: batch norm after global averaging needs at least two images."""
    if x.shape[0] < 2:
        raise UsageError(
            "a batch of 1 cannot train this network: batch norm after pooling over the whole picture would see one "
            "value; use a batch size of 2 or more"
        )


def upsample2(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), bilinear with half-pixel centres, as everywhere in the project."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def pooling_matrix(size: int, bins: int, like: Tensor) -> Tensor:
    """(bins, size): row i averages what adaptive average pooling puts in bin i; device and dtype of `like`.

    Built from comparisons, so that an exported graph can compute it from its input shape, and an engine that knows the
    shape can fold it into a constant.
    """
    position = torch.arange(size, device=like.device)
    index = torch.arange(bins, device=like.device)
    start = (index * size) // bins
    end = ((index + 1) * size + bins - 1) // bins
    inside = (position >= start[:, None]) & (position < end[:, None])  # (bins, size)
    return inside.to(like.dtype) / (end - start)[:, None].to(like.dtype)


def resize_matrix(size: int, bins: int, like: Tensor) -> Tensor:
    """(size, bins): the matrix that interpolates `bins` values bilinearly to `size` (half-pixel centres)."""
    position = (torch.arange(size, device=like.device).to(like.dtype) + 0.5) * (bins / size) - 0.5
    position = position.clamp(0, bins - 1)
    index = torch.arange(bins, device=like.device).to(like.dtype)
    return (1 - (position[:, None] - index).abs()).clamp(min=0)
