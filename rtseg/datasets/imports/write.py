"""Writes an export as a folder: pictures, masks of ids, `classes.json`."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtseg.core.errors import InputError, OutputError, RtsegError, UsageError
from rtseg.core.labels import LabelSet, voc_colour
from rtseg.core.sizes import Size, format_size
from rtseg.datasets.classes import FILE, parse_classes, read_classes_file, set_name
from rtseg.datasets.imports.base import IGNORED, Annotated, Export
from rtseg.datasets.masks import MOST_CLASSES, Colour
from rtseg.sources.images import read_image

_IGNORE = 255
_PNG = b"\x89PNG"

Follow = Callable[[Iterable[Annotated], str], Iterable[Annotated]]


@dataclass
class Imported:
    """The result of an import.

    Attributes:
        pictures: number of pictures.
        notes: messages for the user.
    """

    pictures: int = 0
    notes: list[str] = field(default_factory=list)


def import_set(
    export: Export,
    output: Path,
    classes: Path | None = None,
    background: str | None = None,
    follow: Follow = lambda items, title: items,
) -> Imported:
    """Writes `images/`, `masks/` and `classes.json`, all or nothing.

    A pixel that no shape covers, or that is under a shape called `__ignore__`, is unlabelled. Pictures without shapes
    are left out, since nobody may have annotated them yet.

    Args:
        export: the export to read.
        output: the new folder; must be missing or empty.
        classes: a `classes.json` that defines the classes, their order and colours; by default the classes that the
            export lists, else those that occur, by name.
        background: the class of pixels that no shape covers, and of pictures without shapes.
        follow: wraps the pictures to show progress; given a title.

    Raises:
        InputError: a file or a shape cannot be used; the message names it.
        OutputError: the folder exists already, or cannot be written.
        UsageError: no class is left, or there are too many.
    """
    output = output.resolve()
    try:
        labels = _label_set(export, set_name(output), classes, background)
        described = _described(labels)
        parse_classes(described, labels.name)
    except RtsegError:
        raise
    except ValueError as error:
        raise InputError(f"{export.source} has classes that {FILE} cannot hold: {error}") from error
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output} exists already: choose another --output, or remove it")
    part = output.with_name(f"{output.name}.partial")
    if part.exists():
        raise OutputError(f"{part} is there: another import is writing it, or was interrupted; wait for that one, or "
                          "remove it, or choose another --output")  # fmt: skip
    try:
        part.mkdir(parents=True)
        try:
            done = _write(follow(export.pictures(), "importing"), part, labels, background)
            (part / FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            if output.exists():
                output.rmdir()
            part.rename(output)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; check the folder and free space"
        ) from error
    done.notes += export.notes
    return done


def _label_set(export: Export, name: str, classes: Path | None, background: str | None) -> LabelSet:
    if classes is not None:
        labels = read_classes_file(classes)[0]
        if background is not None and background not in labels.names:
            raise UsageError(f"--background {background!r} is none of the classes of {classes}: add it there")
        return labels
    found: dict[str, Colour | None] = dict(export.classes)
    if not found:
        found = dict.fromkeys(sorted({shape.label for picture in export.pictures() for shape in picture.shapes}))
    found.pop(IGNORED, None)
    if background is not None:
        found.setdefault(background, (0, 0, 0))
    if not found or "" in found:
        raise UsageError(
            f"{export.source} names no class" if not found else f"{export.source} has a class without name"
        )
    if len(found) > MOST_CLASSES:
        raise UsageError(f"{export.source} has {len(found)} classes; allowed: 1 to {MOST_CLASSES}. Merge some first")
    return LabelSet(name, tuple(found), _colours(list(found.values())), _IGNORE)


def _colours(given: list[Colour | None]) -> tuple[Colour, ...]:
    """The given colours; missing ones are filled with the next unused ones of Pascal VOC (Everingham 2010)."""
    taken = {colour for colour in given if colour is not None}
    free = (colour for colour in map(voc_colour, range(1, 1024)) if colour not in taken)
    return tuple(next(free) if colour is None else colour for colour in given)


def _write(pictures: Iterable[Annotated], root: Path, labels: LabelSet, background: str | None) -> Imported:
    done, empty = Imported(), 0
    taken: dict[str, str] = {}
    for one in pictures:
        if not one.shapes and background is None:
            empty += 1
            continue
        if (other := taken.setdefault(one.name.casefold(), one.where)) is not one.where or not one.name:
            raise InputError(f"{one.where} and {other} would both be called {one.name!r}: rename one of the pictures")
        mask = _mask(one, _size(one, _place(one, root)), labels, background)
        target = root / "masks" / f"{one.name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
        done.pictures += 1
    if empty:
        done.notes.append(f"{empty} pictures without a shape are left out; --background NAME takes them too")
    if not done.pictures:
        raise InputError("none of the pictures has a shape: there is nothing to train on")
    return done


def _mask(one: Annotated, size_hw: Size, labels: LabelSet, background: str | None) -> np.ndarray:
    """uint8 (H, W): ids, 255 if unlabelled."""
    if one.size_hw is not None and one.size_hw != size_hw:
        what = "the one in it" if isinstance(one.picture, bytes) else str(one.picture)
        raise InputError(f"{one.where} is for a picture of {format_size(one.size_hw)}, but {what} has "
                         f"{format_size(size_hw)}: give the pictures that were annotated")  # fmt: skip
    mask = np.full(size_hw, _IGNORE if background is None else labels.index(background), np.uint8)
    for shape in one.shapes:
        if shape.label != IGNORED and shape.label not in labels.names:
            raise InputError(f"{one.where} has the class {shape.label!r}, which is not listed; there are: "
                             f"{', '.join(labels.names)}")  # fmt: skip
        mask[shape.cover(size_hw)] = _IGNORE if shape.label == IGNORED else labels.index(shape.label)
    return mask


def _size(one: Annotated, placed: Path) -> Size:
    """(height, width) of a picture as training will read it; raises InputError if it cannot be read."""
    try:
        height, width = read_image(placed if isinstance(one.picture, bytes) else one.picture).shape[:2]
    except InputError as error:
        if isinstance(one.picture, bytes):
            raise InputError(f"{one.where} holds a picture that cannot be read: it is damaged or cut short") from error
        raise
    return height, width


def _place(one: Annotated, root: Path) -> Path:
    """Copies the picture and returns its new path."""
    data = one.picture
    suffix = (".png" if data[:4] == _PNG else ".jpg") if isinstance(data, bytes) else data.suffix
    target = root / "images" / f"{one.name}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, bytes):
        target.write_bytes(data)
    else:
        shutil.copyfile(data, target)
    return target


def _described(labels: LabelSet) -> dict[str, Any]:
    """The content of `classes.json`."""
    classes: list[dict[str, Any]] = [
        {"name": name, "rgb": list(colour)} for name, colour in zip(labels.names, labels.palette_rgb, strict=True)
    ]
    return {"name": labels.name, "classes": classes, "ignore": _IGNORE, "masks": "ids"}
