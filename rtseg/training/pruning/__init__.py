"""Structured pruning: cuts whole channels and leaves a smaller dense network. One file per method; no torch here."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rtseg.core.registry import Registry

if TYPE_CHECKING:
    import torch

    Method = Callable[[torch.nn.Module, torch.Generator], torch.Tensor | None]

__all__ = ["METHODS"]

METHODS: Registry["Method"] = Registry(
    "pruning method",
    {
        "l1": "rtseg.training.pruning.norms:l1",
        "l2": "rtseg.training.pruning.norms:l2",
        "bn": "rtseg.training.pruning.bn:bn",
        "random": "rtseg.training.pruning.random:random",
    },
)
"""Name -> function that scores a layer's output channels: float32 (outputs,), the lowest are cut; None if the method
ignores such a layer. The generator is for methods that draw random numbers."""
