"""Squeeze and excitation (Hu et al. 2018, "Squeeze-and-Excitation Networks", CVPR)."""

from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Scales each channel by a factor computed from the means of all channels: x * gate(W2 relu(W1 mean(x))).

    Args:
        channels: of x.
        inner: channels between the two layers.
        gate: maps each value to a factor in 0..1: a sigmoid, or MobileNet v3's piecewise linear one.
    """

    def __init__(self, channels: int, inner: int, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        factors = self.gate(self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()))  # (N, C, 1, 1)
        return x * factors
