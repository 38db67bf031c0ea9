"""`classes.json`, which describes the labels of your own pictures (schema in docs/data.md)."""

import os
from pathlib import Path
from typing import Any, TypeVar
from unicodedata import category

from rtseg.core.errors import InputError
from rtseg.core.files import read_json
from rtseg.core.labels import LabelSet
from rtseg.datasets.masks import MOST_CLASSES, Colour, ColourMasks, IdMasks, Masks

Code = TypeVar("Code", int, Colour)

FILE = "classes.json"
_IGNORE = 255  # in the labels that a data set returns, whatever the files use
_EXAMPLE = '{"classes": [{"name": "grass", "rgb": [0, 128, 0]}, {"name": "path", "rgb": [128, 128, 128]}]}'


def read_classes(root: Path) -> tuple[LabelSet, Masks]:
    """Reads the classes of `root`, and how to read its label pictures.

    Raises:
        InputError: the file is missing, is not JSON, or violates the schema; the message names the entry.
    """
    return read_classes_file(root / FILE)


def read_classes_file(path: Path) -> tuple[LabelSet, Masks]:
    """`read_classes` for a file of any name."""
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: it names the classes, for example {_EXAMPLE}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}; for example {_EXAMPLE}") from error
    try:
        return parse_classes(data, set_name(path.parent))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error


def set_name(root: Path) -> str:
    """A data set's name, from its folder, as text that UTF-8 cards and reports can hold."""
    return os.fsencode(root.resolve().name).decode(errors="replace")


def parse_classes(data: Any, default_name: str) -> tuple[LabelSet, Masks]:
    """Parses the content of a `classes.json`; raises ValueError that names the entry."""
    _check_keys(data, {"classes"}, {"name", "masks", "ignore"}, "the file")
    entries = data["classes"]
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_CLASSES:
        raise ValueError(f"'classes' must be a list of 1 to {MOST_CLASSES} entries")
    masks = data.get("masks", "ids")
    if masks not in ("ids", "colours"):
        raise ValueError(f"'masks' is {masks!r}; allowed: 'ids' (default) or 'colours'")
    coloured = masks == "colours"
    for number, entry in enumerate(entries):
        _check_keys(entry, {"name", "rgb"}, set() if coloured else {"id"}, f"class {number}")
        _name(entry["name"], f"class {number}: 'name'")
    names = tuple(entry["name"] for entry in entries)
    palette = tuple(_colour(entry["rgb"], f"class {entry['name']!r}: 'rgb'") for entry in entries)
    _check_distinct(names, "names")
    labels = LabelSet(_name(_text(data["name"]), "'name'") if "name" in data else default_name, names, palette, _IGNORE)
    if coloured:
        _check_distinct(palette, "colours")
        ignored = data.get("ignore")
        codes = {colour: index for index, colour in enumerate(palette)}
        return labels, ColourMasks(_with_ignore(codes, None if ignored is None else _colour(ignored, "'ignore'")))
    ids = [_ids(entry.get("id", number), f"class {entry['name']!r}: 'id'") for number, entry in enumerate(entries)]
    _check_distinct(tuple(value for of_class in ids for value in of_class), "ids")
    ignored = data.get("ignore", _IGNORE)
    values = {value: index for index, of_class in enumerate(ids) for value in of_class}
    return labels, IdMasks(_with_ignore(values, None if ignored is None else _byte(ignored, "'ignore'")))


def _with_ignore(codes: dict[Code, int], ignored: Code | None) -> dict[Code, int]:
    if ignored in codes:
        raise ValueError(f"'ignore' is {ignored}, which is a class too: give another, or null where all is labelled")
    return codes if ignored is None else {**codes, ignored: _IGNORE}


def _check_keys(entry: Any, needed: set[str], optional: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be an object with the keys {', '.join(sorted(needed))}")
    for missing in sorted(needed - set(entry)):
        raise ValueError(f"{where} has no '{missing}'; for example {_EXAMPLE}")
    for unknown in sorted(set(entry) - needed - optional):
        raise ValueError(f"{where} has the unknown key {unknown!r}; allowed: {', '.join(sorted(needed | optional))}")


def _check_distinct(values: tuple[Any, ...], what: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} of classes must differ, {value!r} is there twice")


def _text(value: Any) -> Any:
    """Turns a number into text, because a data set may be called 2024."""
    return str(value) if isinstance(value, int) else value


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip() or any(category(sign) in ("Cc", "Cs") for sign in value):
        raise ValueError(f"{what} must be a text in one line, not {value!r}")
    return value


def _ids(value: Any, what: str) -> list[int]:
    """A number, or a list of numbers that are merged into one class."""
    if value == []:
        raise ValueError(f"{what} is an empty list: give a number from 0 to 255, or several")
    return [_byte(one, what) for one in (value if isinstance(value, list) else [value])]


def _byte(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise ValueError(f"{what} is {value!r}: it must be a whole number from 0 to 255")
    return value


def _colour(value: Any, what: str) -> Colour:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{what} is {value!r}: it must be [red, green, blue], each from 0 to 255")
    red, green, blue = (_byte(part, what) for part in value)
    return red, green, blue
