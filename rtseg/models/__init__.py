"""Networks in PyTorch, one architecture per file.

A model maps `x: float32 (N, 3, H, W)` (RGB, normalised) to `logits (N, C, H/s, W/s)`. `features` returns its named
intermediate results; `forward_train` returns both, with the logits of the auxiliary classifiers. The attributes
`size_multiple` and `logits_stride` say which sizes fit.
"""

import sys
from types import ModuleType
from typing import Any

from rtseg.core.card import IMPORTED, Card
from rtseg.core.errors import UsageError
from rtseg.core.registry import Registry
from rtseg.core.zoo import models
from rtseg.models.base import SegmentationModel
from rtseg.models.pruned import narrow

__all__ = ["MODELS", "SegmentationModel", "build_like", "build_model"]

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
    """Builds a network with fresh weights, or the pretrained ones its config names.

    Args:
        name: one of `MODELS`, or smp:ARCHITECTURE:ENCODER.
        config: fields of its config dataclass.

    Raises:
        UsageError: there is no such network, it is an imported one, or the config does not fit it.
        WeightsError: the config names pretrained weights that cannot be fetched or read.
    """
    if name == IMPORTED:
        raise UsageError("an imported network is a graph that torch knows nothing of: it runs on onnxruntime or "
                         "openvino, and cannot be trained, pruned, taught from or exported again")  # fmt: skip
    family, *parts = name.split(":") if name.startswith("smp:") else [name]
    if parts:
        if len(parts) != 2:
            raise UsageError(f"{name!r} is not smp:ARCHITECTURE:ENCODER, for example smp:unet:resnet34")
        config = {**config, "architecture": parts[0], "encoder": parts[1]}
    return _built(MODELS.get(family), config)


def build_like(network: SegmentationModel) -> SegmentationModel:
    """Builds a network of the same config, pruned layers included, with fresh weights or the pretrained ones it names.

    Raises:
        WeightsError: the pretrained weights cannot be fetched or read.
    """
    pretrained = getattr(network.config, "pretrained", None)
    return _built(type(network), {**network.config_json(), **({"pretrained": pretrained} if pretrained else {})})


def _built(kind: type[SegmentationModel], config: dict[str, Any]) -> SegmentationModel:
    if config.get("pruned") and config.get("pretrained"):
        raise UsageError("pretrained weights do not fit the layers of a pruned network: leave pretrained out")
    model = kind.from_config(config)
    if config.get("pruned"):
        narrow(model, model.config.pruned)
    return model


class _Callable(ModuleType):
    """Makes `rtseg.models()` list the shipped networks, even once this package has replaced the function `models`."""

    def __call__(self) -> dict[str, Card]:
        return models()


sys.modules[__name__].__class__ = _Callable
