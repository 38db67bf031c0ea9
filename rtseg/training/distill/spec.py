"""Parses `--teaching`, which names methods and fields of their configs; without torch."""

from dataclasses import dataclass

from rtseg.core.errors import UsageError
from rtseg.training.distill import METHODS

_FORM = "write METHOD or METHOD:FIELD=VALUE, with commas between methods, for example logits,cwd:weight=2:temperature=4"


@dataclass(frozen=True)
class Spec:
    """A requested method; `fields` maps names to values as text, not checked yet."""

    method: str
    fields: dict[str, str]


def parse_teaching(text: str) -> tuple[Spec, ...]:
    """'logits,cwd:weight=2:temperature=4' -> one `Spec` for each method.

    Raises:
        UsageError: the text has another form, names an unknown method, or names a method or field twice.
    """
    specs: list[Spec] = []
    for part in text.split(","):
        name, *entries = (piece.strip() for piece in part.split(":"))
        if not name:
            raise UsageError(f"--teaching {text!r} has an empty method: {_FORM}")
        METHODS.check(name)
        if name in [spec.method for spec in specs]:
            raise UsageError(f"--teaching {text!r} names {name} twice: name each method once")
        fields: dict[str, str] = {}
        for entry in entries:
            field, equals, value = entry.partition("=")
            if not (field and equals and value) or field in fields:
                raise UsageError(f"{entry!r} in --teaching {text!r} is no FIELD=VALUE, or comes twice: {_FORM}")
            fields[field] = value
        specs.append(Spec(name, fields))
    return tuple(specs)
