"""Encoders (trunks), one family a file, chosen by name in the config field `encoder` of a network."""

from collections.abc import Callable

from rtseg.core.registry import Registry
from rtseg.models.encoders.base import Encoder, TrunkOptions

__all__ = ["ENCODERS", "Encoder", "TrunkOptions", "build_encoder"]

_TIMM = "timm:"

ENCODERS: Registry[Callable[[TrunkOptions], Encoder]] = Registry(
    "encoder",
    {
        "resnet18": "rtseg.models.encoders.resnet:resnet18",
        "resnet34": "rtseg.models.encoders.resnet:resnet34",
        "resnet50": "rtseg.models.encoders.resnet:resnet50",
        "resnet50_half": "rtseg.models.encoders.resnet:resnet50_half",
        "resnet101": "rtseg.models.encoders.resnet:resnet101",
        "mobilenet_v1": "rtseg.models.encoders.mobilenet:mobilenet_v1",
        "mobilenet_v2": "rtseg.models.encoders.mobilenet:mobilenet_v2",
        "mobilenet_v3_large": "rtseg.models.encoders.mobilenet:mobilenet_v3_large",
        "mobilenet_v3_small": "rtseg.models.encoders.mobilenet:mobilenet_v3_small",
        "efficientnet_lite0": "rtseg.models.encoders.efficientnet_lite:efficientnet_lite0",
        "efficientnet_lite1": "rtseg.models.encoders.efficientnet_lite:efficientnet_lite1",
        "efficientnet_lite2": "rtseg.models.encoders.efficientnet_lite:efficientnet_lite2",
    },
    open_names="timm:NAME for one of timm's",
)


def build_encoder(name: str, options: TrunkOptions, pretrained: str | None = None) -> Encoder:
    """Builds an encoder.

    Args:
        name: one of `ENCODERS`, or timm:NAME.
        options: how it is built.
        pretrained: 'imagenet', or the path of a state-dict file; fresh weights where it is None.

    Raises:
        UsageError: no such encoder, or it does not have an option.
        WeightsError: the pretrained weights cannot be fetched or read, or do not fit.
    """
    if name.startswith(_TIMM):
        from rtseg.models.encoders.timm_encoder import TimmEncoder

        return TimmEncoder(name.removeprefix(_TIMM), options, pretrained)
    encoder = ENCODERS.get(name)(options)
    if pretrained is not None:
        from rtseg.models.encoders.pretrained import load_pretrained

        load_pretrained(encoder, name, options, pretrained)
    return encoder
