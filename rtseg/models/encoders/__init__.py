"""Encoders (trunks), one family per file; the config field `encoder` of a network chooses one by name."""

from collections.abc import Callable

from rtseg.core.registry import Registry
from rtseg.models.encoders.base import Encoder, TrunkOptions
from rtseg.models.encoders.table import ROWS

__all__ = ["ENCODERS", "Encoder", "TrunkOptions", "build_encoder", "setting_names"]

_TIMM = "timm:"

ENCODERS: Registry[Callable[[TrunkOptions], Encoder]] = Registry(
    "encoder",
    {name: row.target for name, row in ROWS.items()},
    open_names="timm:NAME for one of timm's (`rtseg models --encoders` lists all others)",
)


def setting_names(name: str) -> list[str]:
    """Names of an encoder's own fields.

    Raises:
        UsageError: there is no such encoder.
    """
    return [] if name.startswith(_TIMM) else ROWS[ENCODERS.check(name)].fields()


def build_encoder(name: str, options: TrunkOptions, pretrained: str | None = None) -> Encoder:
    """Builds an encoder.

    Args:
        name: one of `ENCODERS`, or timm:NAME.
        options: how it is built.
        pretrained: 'imagenet', or the path of a state-dict file; None for fresh weights.

    Raises:
        UsageError: there is no such encoder, or it lacks one of the options.
        WeightsError: the pretrained weights cannot be fetched or read, or do not fit.
    """
    if name.startswith(_TIMM):
        from rtseg.models.encoders.timm_encoder import TimmEncoder

        return TimmEncoder(name.removeprefix(_TIMM), options, pretrained)
    make = ENCODERS.get(name)
    ROWS[name].check(name, options)
    encoder = make(options)
    if pretrained is not None:
        from rtseg.models.encoders.pretrained import load_pretrained

        load_pretrained(encoder, name, options, pretrained)
    return encoder
