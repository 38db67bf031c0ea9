"""What published sizes count."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """All trainable parameters, those of auxiliary classifiers included."""
    return sum(parameter.numel() for parameter in model.parameters())
