"""Networks in PyTorch, one architecture a file.

A model maps `x: float32 (N, 3, H, W)` (RGB, normalised) to `logits (N, C, H/s, W/s)`; `forward_train` returns
`(logits, *auxiliary logits)`. Class attributes `size_multiple` and `logits_stride` say what sizes fit.
"""

from typing import Any

from rtseg.core.registry import Registry
from rtseg.models.base import SegmentationModel

__all__ = ["MODELS", "SegmentationModel", "build_model"]

MODELS: Registry[type[SegmentationModel]] = Registry(
    "model",
    {
        "enet": "rtseg.models.enet:ENet",
        "enet-encoder": "rtseg.models.enet:ENetEncoder",
        "icnet": "rtseg.models.icnet:ICNet",
    },
)


def build_model(name: str, config: dict[str, Any]) -> SegmentationModel:
    """Builds the architecture `name` from the fields of its config dataclass, with fresh weights."""
    return MODELS.get(name).from_config(config)
