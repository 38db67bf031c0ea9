"""Counts parameters as published sizes do."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """All trainable parameters, including auxiliary classifiers."""
    return sum(parameter.numel() for parameter in model.parameters())
