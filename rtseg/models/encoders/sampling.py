"""3x3 convolutions whose taps leave the regular grid: active (Jeon and Kim 2017, "Active Convolution: Learning the
Shape of Convolution for Image Classification", CVPR) and deformable (Dai et al. 2017, "Deformable Convolutional
Networks", ICCV).

With taps k at p_k = (-1, -1) ... (1, 1), both compute

    y(p) = sum_k w_k x(p + p_k + d_k),      x(q) between positions: bilinear, 0 outside

where d_k is learned. In an active convolution, d_k is one number per tap and axis for all positions and channels; in a
deformable one, an ordinary 3x3 convolution of x computes it for each position. Both start at d = 0, which is the plain
convolution, so pretrained weights keep their meaning.

Deviations: d is in units of the dilation rate, so a layer sees the same when strides become dilation. An active
convolution's taps stay within 5x5 positions, and a dilated one interpolates between positions that are the rate apart;
its gradients are not normalised, and it has no separate warm-up. A deformable one has one group of offsets.

Cost per position, for C inputs and O outputs: plain 9 C O multiply-accumulates. Active 25 C O, like a 5x5 convolution
whose weights follow from w and d: engines fold them when they load the graph, so only `Conv` runs. Deformable 9 C O,
plus 162 C for the offsets and 36 C for the interpolation (ONNX `GridSample`, which moves 9 C values through memory: far
slower on a CPU than its arithmetic suggests). It uses GridSample because OpenVINO does not convert DeformConv.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.blocks import ConvNormAct

_WINDOW = 2  # an active convolution's taps stay within -2..2
OFFSET = "offset"


def is_offset(key: str) -> bool:
    """Whether a state-dict key belongs to learned offsets, which start at zero if the weights lack them."""
    return f".{OFFSET}" in key


class ActiveConv2d(nn.Conv2d):
    """A 3x3 convolution with nine movable taps: `offset` (18,) holds their nine shifts in y, then in x."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(**_shape(plain))
        self.weight = plain.weight
        self.offset = nn.Parameter(torch.zeros(18))  # one axis: no weight decay

    def kernel(self) -> Tensor:
        """(O, C, 5, 5): each tap's weight spread over the four places around it."""
        taps = torch.arange(-1, 2, device=self.offset.device).to(self.offset.dtype)
        places = torch.arange(-_WINDOW, _WINDOW + 1, device=self.offset.device).to(self.offset.dtype)
        at_y = (taps.repeat_interleave(3) + self.offset[:9]).clamp(-_WINDOW, _WINDOW)
        at_x = (taps.repeat(3) + self.offset[9:]).clamp(-_WINDOW, _WINDOW)
        rows, columns = _hat(at_y[:, None] - places), _hat(at_x[:, None] - places)  # (9, 5) each
        spread = (rows[:, :, None] * columns[:, None, :]).flatten(1)  # (9, 25)
        side = 2 * _WINDOW + 1
        return (self.weight.flatten(2) @ spread).reshape(*self.weight.shape[:2], side, side)

    def forward(self, x: Tensor) -> Tensor:
        padding = (_WINDOW * self.dilation[0], _WINDOW * self.dilation[1])
        return F.conv2d(x, self.kernel(), None, self.stride, padding, self.dilation)


def _hat(distance: Tensor) -> Tensor:
    """max(0, 1 - |distance|), with a gradient at 1 and -1; without it, taps would never leave their initial
    positions."""
    away = distance.abs()
    return torch.where(away <= 1, 1 - away, torch.zeros_like(away))


class DeformableConv2d(nn.Conv2d):
    """A 3x3 convolution whose taps move at every position: `offset` returns (N, 18, h, w), nine shifts in y, then x."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(**_shape(plain))
        self.weight = plain.weight
        self.offset = nn.Conv2d(**{**_shape(plain), "out_channels": 18, "bias": True})
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.is_cuda and torch.are_deterministic_algorithms_enabled():
            raise UsageError("deformable convolutions have no deterministic gradient on CUDA: leave --deterministic "
                             "out, or take conv=active")  # fmt: skip
        shifts = self.offset(x).float()  # bf16 is not precise enough for positions
        height, width = x.shape[-2:]
        rows, columns = shifts.shape[-2:]
        taps = torch.arange(-1, 2, device=x.device).float()
        rate, stride = self.dilation[0], self.stride[0]
        at_y = torch.arange(rows, device=x.device).float()[:, None] * stride  # (h, 1)
        at_x = torch.arange(columns, device=x.device).float() * stride  # (w,)
        at_y = at_y + rate * (taps.repeat_interleave(3)[:, None, None] + shifts[:, :9])  # (N, 9, h, w)
        at_x = at_x + rate * (taps.repeat(3)[:, None, None] + shifts[:, 9:])
        grid = torch.stack([(2 * at_x + 1) / width - 1, (2 * at_y + 1) / height - 1], -1)  # (N, 9, h, w, 2) in -1..1
        seen = F.grid_sample(x.float(), grid.flatten(1, 2), "bilinear", "zeros", align_corners=False)  # (N, C, 9h, w)
        seen = seen.reshape(x.shape[0], 9 * x.shape[1], rows, columns)
        return F.conv2d(seen.to(x.dtype), self.weight.flatten(1)[:, :, None, None])


def _shape(plain: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    return {**{name: getattr(plain, name) for name in names}, "bias": False}


CONVOLUTIONS: dict[str, type[ActiveConv2d] | type[DeformableConv2d]] = {
    "active": ActiveConv2d, "deformable": DeformableConv2d,
}  # fmt: skip


def replace_last(module: nn.Module, conv: str, count: int) -> None:
    """Replaces the last `count` 3x3 convolutions of `module` by active or deformable ones.

    Raises:
        UsageError: it has fewer.
    """
    found = [layer for layer in module.modules() if isinstance(layer, ConvNormAct) and layer[0].kernel_size == (3, 3)]
    if count > len(found):
        raise UsageError(f"conv_count is {count}: this encoder has {len(found)} 3x3 convolutions behind its stem")
    for layer in found[-count:]:
        plain = layer[0]
        assert isinstance(plain, nn.Conv2d)
        layer[0] = CONVOLUTIONS[conv](plain)
