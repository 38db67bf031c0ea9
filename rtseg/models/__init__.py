"""Networks in PyTorch, one architecture a file.

A model maps `x: float32 (N, 3, H, W)` (RGB, normalised) to `logits (N, C, H/s, W/s)`; `features` names what it computes
on its way, and `forward_train` gives both, with the logits of auxiliary classifiers. Its attributes `size_multiple` and
`logits_stride` say what sizes fit.
"""

from typing import Any

from rtseg.core.errors import UsageError
from rtseg.core.registry import Registry
from rtseg.models.base import SegmentationModel

__all__ = ["MODELS", "SegmentationModel", "build_model"]

MODELS: Registry[type[SegmentationModel]] = Registry(
    "model",
    {
        "enet": "rtseg.models.enet:ENet",
        "enet-encoder": "rtseg.models.enet:ENetEncoder",
        "icnet": "rtseg.models.icnet:ICNet",
        "pspnet": "rtseg.models.pspnet:PSPNet",
        "swiftnet": "rtseg.models.swiftnet:SwiftNet",
        "deeplabv3": "rtseg.models.deeplabv3:DeepLabV3",
        "smp": "rtseg.models.smp:SmpNetwork",
    },
    open_names="smp:ARCHITECTURE:ENCODER for one of segmentation-models-pytorch",
)


def build_model(name: str, config: dict[str, Any]) -> SegmentationModel:
    """Builds a network with fresh weights.

    Args:
        name: one of `MODELS`, or smp:ARCHITECTURE:ENCODER.
        config: fields of its config dataclass.

    Raises:
        UsageError: no such network, or the config does not fit it.
        WeightsError: the config names pretrained weights that cannot be had.
    """
    if not name.startswith("smp:"):
        return MODELS.get(name).from_config(config)
    family, *parts = name.split(":")
    if len(parts) != 2:
        raise UsageError(f"{name!r} is not smp:ARCHITECTURE:ENCODER, for example smp:unet:resnet34")
    return MODELS.get(family).from_config({**config, "architecture": parts[0], "encoder": parts[1]})
