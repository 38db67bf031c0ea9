"""A folder of your own pictures: `images/`, `masks/` and `classes.json` (schema in docs/data.md).

A picture and its label picture have the same name up to the suffix, and the same place below `images/` and `masks/`.
The splits are defined, in this order of precedence, by

1. the lists `train.txt`, `val.txt` (and `test.txt`): one picture per line, below `images/`, with or without suffix;
2. the folders `images/train`, `images/val` (and `images/test`);
3. a rule. Pictures whose names differ only in their last number are frames of one sequence, and the last fifth of each
   sequence is val, so that neighbouring frames, which are nearly identical, stay together. Sequences of fewer than five
   pictures, and single pictures, are joined in the order of their names and treated as one sequence.
"""

import logging
import re
from collections.abc import Collection, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from rtseg.core.errors import InputError
from rtseg.core.paths import walk
from rtseg.datasets.base import Pair, PairedFiles, read_lines, split_of
from rtseg.datasets.classes import FILE, read_classes
from rtseg.sources.kinds import IMAGE_SUFFIXES, is_picture, skipped_note

log = logging.getLogger(__name__)

_VAL_SHARE = 0.2
_SHORT = 5
_RULE_SPLITS = ("train", "val")


class Folder(PairedFiles):
    """One split of a folder: train, val or, if lists or folders define it, test."""

    name: ClassVar[str] = "folder"
    layout: ClassVar[str] = f"images/, masks/ and {FILE}"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: Path | None, split: str) -> None:
        super().__init__(root, split)
        assert root is not None
        self.labels, self.masks = read_classes(root)
        if split not in (there := self.present(root)):
            raise InputError(f"{root} has no split {split}; there: {', '.join(there) or 'none'}")
        self._root = root
        images, masks = root / "images", root / "masks"
        self._pictures, others = _below(images)
        self._masks, other_masks = _below(masks)
        stems = _members(root, split, list(self._pictures))
        if not stems:
            raise _empty(root, split, len(self._pictures))
        self.pairs = [
            Pair(stem, self._pictures.get(stem, images / stem), self._masks.get(stem, masks / f"{stem}.png"))
            for stem in stems
        ]
        labelled = self._masks.keys() | {_stem(path, masks) for path in other_masks}
        self._skipped = _skipped(images, others, self._pictures.keys(), labelled)
        notes = [*_misnamed(root)]
        if self._skipped:
            notes.append(f"{images}: {skipped_note([path.name for path in self._skipped])}")
        for note in notes:
            _tell(note)

    def strays(self) -> list[Path]:
        below = f"{self.split}/" if _has_folders(self._root) else ""
        alone = [path for stem, path in self._masks.items() if stem not in self._pictures and stem.startswith(below)]
        return alone if below or self.split == self.present(self._root)[0] else []  # reported once

    def gaps(self) -> list[str]:
        there = self.present(self._root)
        members = {stem for split in there for stem in _members(self._root, split, list(self._pictures))}
        kind = "list {}.txt" if _has_lists(self._root) else "folder images/{}"
        missing = [f"the {kind.format(split)} is missing" for split in _RULE_SPLITS if split not in there]
        loose = [f"{path} is in no split" for stem, path in self._pictures.items() if stem not in members]
        unread = [f"{path} is not read: convert it to PNG or JPEG" for path in self._skipped]
        return [*missing, *_misnamed(self._root), *loose, *unread]

    @classmethod
    def _has(cls, root: Path | None, split: str) -> bool:
        assert root is not None
        if _has_lists(root):
            return (root / f"{split}.txt").is_file()
        return (root / "images" / split).is_dir() if _has_folders(root) else split in _RULE_SPLITS


def _empty(root: Path, split: str, pictures: int) -> InputError:
    """The error for a split without a picture."""
    if _has_lists(root):
        return InputError(f"{root / f'{split}.txt'} names no picture")
    if pictures == 1 and not _has_folders(root):
        return InputError(f"{root} holds one picture, which cannot be split into train and val: add pictures, or the "
                          "lists train.txt and val.txt")  # fmt: skip
    return InputError(f"split {split} of {root} holds no picture; allowed: {' '.join(IMAGE_SUFFIXES)}")


def _has_lists(root: Path) -> bool:
    return any((root / f"{split}.txt").is_file() for split in _RULE_SPLITS)


def _has_folders(root: Path) -> bool:
    return not _has_lists(root) and any((root / "images" / split).is_dir() for split in _RULE_SPLITS)


def _below(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """The contents of a folder: pictures by their path in it without suffix, frames in order; and other files.

    Hidden files are in neither. A broken link counts as a file: reading it reports the error.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is missing: the data set's folder holds {Folder.layout}")
    found: dict[str, Path] = {}
    others = []
    for path in (place / name for place, _, names in walk(folder) for name in names if not name.startswith(".")):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            others.append(path)
            continue
        stem = _stem(path, folder)
        if stem in found:
            raise InputError(f"{found[stem]} and {path} have the same name up to the suffix: rename or remove one")
        found[stem] = path
    return dict(sorted(found.items(), key=lambda item: _place(item[0]))), others


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _skipped(images: Path, others: list[Path], read: Collection[str], labelled: Collection[str]) -> list[Path]:
    """Those of `others` that are skipped for their suffix, although they are pictures or have label pictures.

    Files that an annotation tool has put beside a picture, under its name, are left out.
    """
    stems = {path: _stem(path, images) for path in others}
    return [
        path for path, stem in stems.items()
        if stem not in read and (stem in labelled or (path.is_file() and is_picture(path)))
    ]  # fmt: skip


def _misnamed(root: Path) -> Iterator[str]:
    """Lists and folders that are named like a split but not read: 'Train', 'valid.txt', 'test' on its own."""
    lists = [path for path in sorted(root.glob("*.txt")) if path.is_file()]
    folders = [path for path in sorted((root / "images").iterdir()) if path.is_dir()]
    by_rule = not _has_lists(root) and not _has_folders(root)
    for path in (*lists, *folders) if by_rule else lists if _has_lists(root) else folders:
        if (split := split_of(path.stem if path in lists else path.name)) is None:
            continue
        right = path.with_name(f"{split}.txt" if path in lists else split)
        if by_rule and right.exists():  # test without train and val
            others = " and ".join(str(right.with_name(right.name.replace(split, name))) for name in _RULE_SPLITS)
            yield f"{path} is not read as a split, for {others} are missing: its pictures may be in train or val"
        elif not right.exists():
            yield f"{path} is not read as a split: call it {right.name}"


@cache  # once, however many splits are opened
def _tell(note: str) -> None:
    log.warning(note)


def _place(stem: str) -> tuple[str, int, str]:
    """(sequence, frame, stem): 'a/drive_0012_left' is frame 12 of sequence 'a/drive_*_left'."""
    match = re.fullmatch(r"(.*?)(\d+)([^\d/]*)", stem)
    return (f"{match[1]}*{match[3]}", int(match[2]), stem) if match else (stem, 0, stem)


def _members(root: Path, split: str, stems: list[str]) -> list[str]:
    if _has_lists(root):
        return _listed(root / f"{split}.txt", set(stems))
    if _has_folders(root):
        return [stem for stem in stems if stem.startswith(f"{split}/")]
    val = rule_val(stems)
    return [stem for stem in stems if (stem in val) == (split == "val")]


def _listed(path: Path, stems: set[str]) -> list[str]:
    """The entries of a list; a name without a picture stays as it is, and is reported as missing when it is read."""
    names = [line.replace("\\", "/") for line in read_lines(path) if not line.startswith("#")]
    return [name if name in stems else re.sub(r"\.\w+$", "", name) for name in names]


def rule_val(stems: list[str]) -> set[str]:
    """Those of `stems` that rule 3 above assigns to val; at least one of two or more."""
    ordered = sorted(stems, key=_place)
    sequences = [list(frames) for _, frames in groupby(ordered, key=lambda stem: _place(stem)[0])]
    long = [frames for frames in sequences if len(frames) >= _SHORT]
    rest = [stem for frames in sequences if len(frames) < _SHORT for stem in frames]
    val: set[str] = set()
    for frames in (*long, rest):
        val.update(frames[len(frames) - round(len(frames) * _VAL_SHARE) :])
    return val or set(ordered[-1:] if len(ordered) > 1 else ())
