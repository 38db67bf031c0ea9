"""Refuses options that have no effect together with the others, so nobody waits for an effect that never comes."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from rtseg.core.errors import UsageError


def refuse_idle(options: Any, names: Iterable[str], why: str) -> None:
    """Raises UsageError for the first of these options that was given.

    Args:
        options: the dataclass of a command's options.
        names: the fields to check.
        why: the text after the option's name, such as 'is for TensorRT engines: add --engine tensorrt'.
    """
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise UsageError(f"--{name.replace('_', '-')} {why}, or leave it out")
