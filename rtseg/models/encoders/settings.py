"""An encoder's own fields."""

from typing import Any, TypeVar

from rtseg.core.errors import UsageError
from rtseg.models.encoders.base import TrunkOptions

S = TypeVar("S")


def read_settings(kind: type[S], options: TrunkOptions, **defaults: Any) -> S:
    """Returns an encoder's settings: as requested, else from `defaults`, else the dataclass's own.

    Raises:
        UsageError: a value is not allowed.
    """
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.settings.items()}
    try:
        return kind(**{**defaults, **given})
    except TypeError as error:
        raise UsageError(f"an encoder cannot be built from {given}: {error}") from error
