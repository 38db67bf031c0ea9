"""Structured pruning: whole channels are cut, and a smaller dense network is left. One file a method; no torch here."""

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
"""Name -> what a layer says about each of its output channels: float32 (outputs,), the lowest are cut; None where the
method does not look at such a layer. The generator is for those that draw."""
