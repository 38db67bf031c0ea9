"""Pooling between stages, with or without its stride."""

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models.encoders.base import StrideBudget


class Pool(nn.Module):
    """Maximum or mean over kernel x kernel positions, of which the first (or the middle one) is the output's own.

    Stride 2 or 1. At stride 1 the positions are `rate` apart, so that every 2 * rate-th output equals one of stride 2;
    a position beyond the image counts as the output's own. This avoids dilated pooling, which some engines lack.

    Args:
        kind: 'max' or 'mean'.
        kernel: positions along each side; 2 if `kind` is 'mean'.
        stride: 2 or 1.
        rate: see above.
        centred: whether the middle position is the output's own; at stride 1 only.
    """

    def __init__(self, kind: str, kernel: int, stride: int, rate: int, centred: bool = False) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride, self.rate, self.centred = kind, kernel, stride, rate, centred

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return F.avg_pool2d(x, 2) if self.kind == "mean" else F.max_pool2d(x, self.kernel, 2, ceil_mode=True)
        for axis in (-2, -1):
            x = self._along(x, axis)
        return x

    def _along(self, x: Tensor, axis: int) -> Tensor:
        first = -(self.kernel // 2) if self.centred else 0
        seen = (_shifted(x, (first + place) * self.rate, axis) for place in range(self.kernel))
        join: Callable[[Tensor, Tensor], Tensor] = torch.maximum if self.kind == "max" else torch.add
        joined = reduce(join, seen)
        return joined / self.kernel if self.kind == "mean" else joined


def _shifted(x: Tensor, by: int, axis: int) -> Tensor:
    """Shifts x by `by` positions along an axis, -2 or -1; positions beyond the image keep their own value."""
    if by == 0:
        return x
    size = x.shape[axis]
    before, after = max(0, -by), max(0, by)
    moved = F.pad(x, (before, after) if axis == -1 else (0, 0, before, after)).narrow(axis, after, size)
    place = torch.arange(size, device=x.device) + by
    inside = (place >= 0) & (place < size)
    return torch.where(inside if axis == -1 else inside[:, None], moved, x)


def halve(budget: StrideBudget, kind: str = "max", kernel: int = 2) -> Pool:
    """A pooling of stride 2, or its stride-1 form once the output stride is reached."""
    stride, before, _ = budget.spend(2)
    return Pool(kind, kernel, stride, before)


def spread(module: nn.Module, rate: int) -> None:
    """Dilates the convolutions in `module` and its stride-1 max poolings; both keep the size."""
    if rate == 1:
        return
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            layer.dilation = (rate, rate)
            layer.padding = tuple(rate * (side // 2) for side in layer.kernel_size)
        for name, inner in layer.named_children():
            if isinstance(inner, nn.MaxPool2d) and inner.stride == 1:
                side = inner.kernel_size if isinstance(inner.kernel_size, int) else inner.kernel_size[0]
                setattr(layer, name, Pool("max", side, 1, rate, centred=True))
