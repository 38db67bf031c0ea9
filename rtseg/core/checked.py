"""Checks that values read from JSON have the types and ranges that a dataclass expects."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

Rule = Callable[[Any], bool]


def check_fields(read: object, rules: Mapping[str, Rule]) -> None:
    """Raises ValueError with the name of the first field of `read` that breaks its rule."""
    for name, holds in rules.items():
        if not holds(value := getattr(read, name)):
            raise ValueError(f"its {name} cannot be {value!r}")


def is_text(value: Any) -> bool:
    """Text of any length."""
    return isinstance(value, str)


def is_table(value: Any) -> bool:
    """A JSON object."""
    return isinstance(value, dict)


def is_number(value: Any) -> bool:
    """A finite number; booleans and integers too large for a float do not count."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and isfinite(value)


def is_whole(least: int, most: int = 1 << 53) -> Rule:
    """A whole number from `least` to `most`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_texts(value: Any) -> bool:
    """A tuple of text."""
    return isinstance(value, tuple) and all(map(is_text, value))


def is_size(value: Any) -> bool:
    """(height, width), at least a pixel each."""
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_whole(1, 99_999), value))


def may_be_none(rule: Rule) -> Rule:
    """Anything the rule allows, or null."""
    return lambda value: value is None or rule(value)
