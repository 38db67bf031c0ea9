"""The base class of networks on an encoder."""

from dataclasses import fields
from typing import Any, Self

from rtseg.core.registry import unknown_name
from rtseg.models.base import SegmentationModel
from rtseg.models.encoders import setting_names


class EncoderNetwork(SegmentationModel):
    """A network whose config has the fields `encoder` and `settings`.

    `settings` holds the encoder's own fields. The command line and the cards list them beside the network's
    (`conv=deformable`), so `from_config` takes and `config_json` returns them flat.
    """

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        encoder = config.get("encoder", cls.config_class.encoder)  # type: ignore[attr-defined]
        theirs = setting_names(encoder) if encoder is not None else []
        own = [field.name for field in fields(cls.config_class) if field.name != "settings"]
        for name in config:
            if name not in own and name not in theirs:
                on = f" on {encoder}" if encoder is not None else ""
                raise unknown_name(f"field of {cls.__name__}{on}", name, [*own, *theirs])
        settings = {name: value for name, value in config.items() if name in theirs}
        rest = {name: value for name, value in config.items() if name in own}
        return super().from_config({**rest, "settings": settings})

    def config_json(self) -> dict[str, Any]:
        values = super().config_json()
        settings = values.pop("settings")
        return {**values, **{name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()}}
