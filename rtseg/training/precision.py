"""The precision that a device trains in."""

import torch
from torch import Tensor, nn

from rtseg.core.errors import UsageError


def choose_precision(wanted: str) -> str:
    """Resolves 'auto': bf16 on a GPU or CPU that multiplies in it, else fp32; fp16 needs a GPU."""
    cuda = torch.cuda.is_available()
    if wanted == "fp16" and not cuda:
        raise UsageError("precision fp16 needs a GPU; a CPU trains in fp32 or bf16")
    if wanted != "auto":
        return wanted
    fast = torch.cuda.is_bf16_supported() if cuda else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "fp32"


class Float32Conv2d(nn.Conv2d):
    """A convolution that stays in float32 under autocast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def keep_gradients_true(model: nn.Module) -> None:
    """Excludes dilated depthwise convolutions, of any package's network, from bf16 on a CPU.

    With channels last, torch 2.11 to 2.15 (oneDNN) returns wrong weight gradients for them, unrelated to the true ones
    and sometimes infinite.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups > 1 and max(module.dilation) > 1:
            module.__class__ = Float32Conv2d
