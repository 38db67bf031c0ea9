"""Whether what was read from JSON has the types and ranges that a dataclass says."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

Rule = Callable[[Any], bool]


def check_fields(read: object, rules: Mapping[str, Rule]) -> None:
    """Raises ValueError that names the first field of `read` whose rule does not hold."""
    for name, holds in rules.items():
        if not holds(value := getattr(read, name)):
            raise ValueError(f"its {name} cannot be {value!r}")


def is_text(value: Any) -> bool:
    """Text of any length."""
    return isinstance(value, str)


def is_table(value: Any) -> bool:
    """What JSON calls an object."""
    return isinstance(value, dict)


def is_number(value: Any) -> bool:
    """Neither infinite nor a truth value, and no whole number beyond all floats."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and isfinite(value)


def is_whole(least: int, most: int = 1 << 53) -> Rule:
    """A whole number within two."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_texts(value: Any) -> bool:
    """A tuple of text."""
    return isinstance(value, tuple) and all(map(is_text, value))


def is_size(value: Any) -> bool:
    """(height, width), at least a pixel each."""
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_whole(1, 99_999), value))


def may_be_none(rule: Rule) -> Rule:
    """What a rule allows, or null."""
    return lambda value: value is None or rule(value)
