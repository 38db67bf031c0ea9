"""The classes of an imported network: a known data set's, or those in a JSON file."""

from typing import Any

from rtseg.core.errors import InputError, UsageError
from rtseg.core.files import read_json
from rtseg.core.labels import LabelSet
from rtseg.core.paths import user_path
from rtseg.datasets.classes import parse_classes
from rtseg.importing.label_sets import LABEL_SETS, colour_map

MOST_CLASSES = 256  # label maps are uint8
_FORMS = (
    'a list of names, {"classes": [{"name": …, "rgb": […]}]}, a card of rtseg, or the config.json of transformers '
    '("id2label")'
)


def find_classes(classes: str) -> LabelSet:
    """'ade20k' or 'mine.json' -> its classes; if the file gives no colours, they are those of PASCAL VOC's map.

    Raises:
        UsageError: it is neither a known name nor a JSON file, or has more than 256 classes.
        InputError: the file cannot be read or does not list classes.
    """
    if classes in LABEL_SETS:
        return LABEL_SETS[classes]
    path = user_path(classes)
    if path.suffix.lower() != ".json":
        raise UsageError(f"--classes {classes} is neither a known set ({', '.join(LABEL_SETS)}) nor a JSON file: "
                         f"{_FORMS}")  # fmt: skip
    try:
        data = read_json(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}") from error
    try:
        labels = _parse(data, path.stem)
        _check_distinct(labels.names)
    except UsageError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}; it may be {_FORMS}") from error
    except (TypeError, LookupError, AttributeError) as error:
        raise InputError(f"{path} has another form than what is read here: {_FORMS}") from error
    return labels


def _check_distinct(names: tuple[str, ...]) -> None:
    ids = {name: [index for index, other in enumerate(names) if other == name] for name in names}
    if several := [f"{name!r} is {' and '.join(map(str, own))}" for name, own in ids.items() if len(own) > 1]:
        raise ValueError(f"names of classes must differ: {', '.join(several)}")


def _parse(data: Any, name: str) -> LabelSet:
    if isinstance(data, dict) and "id2label" in data:
        ids = {int(key): text for key, text in data["id2label"].items() if str(key).isdecimal()}
        if set(ids) != set(range(len(ids))):
            raise ValueError(f"the ids in 'id2label' are not 0 to {len(ids) - 1}")
        data = [ids[key] for key in range(len(ids))]
    if isinstance(data, list):
        return named(name, data)
    if isinstance(data, dict) and "classes" in data:
        if all("rgb" not in one for one in data["classes"]):
            return named(name, [one["name"] for one in data["classes"]])
        return parse_classes(data, name)[0]
    if isinstance(data, dict) and ("labels" in data or "palette_rgb" in data):
        return LabelSet.from_json(data.get("labels", data))
    raise ValueError("it says nothing of classes")


def named(name: str, names: list[Any]) -> LabelSet:
    """A label set from names alone; only a first class 'background' is black."""
    if not names or not all(isinstance(text, str) and text.strip() for text in names):
        raise ValueError("the names of classes must be a list of texts")
    if len(names) > MOST_CLASSES:
        raise UsageError(f"{name} has {len(names)} classes: label maps have 8 bits, so {MOST_CLASSES} is the most")
    first = 0 if names[0].strip().lower() == "background" else 1
    return LabelSet(name, tuple(names), colour_map(len(names), first), max(255, len(names)))
