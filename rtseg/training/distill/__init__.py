"""Ways of teaching: trained networks guide another one beside the labels. One file a method; no torch up to here."""

from typing import TYPE_CHECKING

from rtseg.core.registry import Registry

if TYPE_CHECKING:
    from rtseg.training.distill.base import MethodConfig

__all__ = ["METHODS"]

METHODS: Registry[type["MethodConfig"]] = Registry(
    "way of teaching",
    {
        "logits": "rtseg.training.distill.logits:LogitsConfig",
        "features": "rtseg.training.distill.features:FeaturesConfig",
    },
)
