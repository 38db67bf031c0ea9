"""The base class of all data sets."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np

from rtseg.core.errors import InputError, UsageError
from rtseg.core.files import read_text
from rtseg.core.labels import LabelSet
from rtseg.core.registry import unknown_name
from rtseg.core.sizes import Size, format_size
from rtseg.datasets.masks import Masks, SampleError, orientation, read_picture

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
           "testing": "test"}  # fmt: skip
_SIZED = 25  # pictures to read for a split's typical size


@dataclass(frozen=True)
class Sample:
    """One labelled picture: `image` uint8 BGR (H, W, 3), `labels` uint8 (H, W) with the set's ignore index."""

    name: str
    image: np.ndarray
    labels: np.ndarray


class DataSet(ABC):
    """One split of labelled pictures with random access; sample i is the same at every call.

    Attributes:
        labels: the classes.
        collection: name shared by data sets with the same pictures in splits of the same name; empty if there are none.
        layout: one line on what the folder holds; empty for a data set without one.
        pieces: for overlapping splits, the pieces that each consists of; splits with a common piece share pictures.
        default_split: split to train on by default.
        default_holdouts: splits to choose the best weights by, by default.
    """

    name: ClassVar[str]
    collection: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    splits: ClassVar[tuple[str, ...]]
    pieces: ClassVar[dict[str, frozenset[str]]] = {}
    default_split: ClassVar[str] = "train"
    default_holdouts: ClassVar[tuple[str, ...]] = ("val",)
    labels: LabelSet

    def __init__(self, root: Path | None, split: str) -> None:
        if split not in self.splits:
            raise unknown_name(f"split of {self.name}", split, list(self.splits))
        if root is None and self.layout:
            raise UsageError(f"{self.name} needs --root: the folder that holds {self.layout}")
        self.root, self.split = root, split

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """The labelled picture at `index`; raises SampleError if its files cannot be used."""

    def picture_names(self) -> list[str]:
        """The pictures' names, in the split's order, without reading the files."""
        return [f"{self.split}/{index}" for index in range(len(self))]

    @cached_property
    def size_hw(self) -> Size:
        """Size of the picture with the median number of pixels, among some spread evenly over the split."""
        count = min(len(self), _SIZED)
        shapes = [self.sample(index * len(self) // count).labels.shape for index in range(count)]
        height, width = sorted(shapes, key=prod)[count // 2]
        return height, width

    def spread(self, count: int) -> list[int]:
        """Indices of `count` samples spread evenly over the split, or of all if it has fewer."""
        count = min(count, len(self))
        return [(2 * number + 1) * len(self) // (2 * count) for number in range(count)]

    def doubt(self, index: int) -> str | None:
        """Why the labels at `index` may not fit their picture although the files are valid; None if they do."""
        return None

    def strays(self) -> list[Path]:
        """Label files that belong to no picture."""
        return []

    def gaps(self) -> list[str]:
        """What the splits lack, one line each: pictures in no split, and missing splits that training needs."""
        return []

    @classmethod
    def share_pictures(cls, one: str, other: str) -> bool:
        """Whether two splits have pictures in common."""
        first, second = (cls.pieces.get(split, frozenset({split})) for split in (one, other))
        return not first.isdisjoint(second)

    @classmethod
    def present(cls, root: Path | None) -> list[str]:
        """Splits that exist and together contain each picture once."""
        cut = {split for split, own in cls.pieces.items() if any(own < whole for whole in cls.pieces.values())}
        return [split for split in cls.splits if split not in cut and cls._has(root, split)]

    @classmethod
    def _has(cls, root: Path | None, split: str) -> bool:
        """Whether `root` seems to hold `split`, judged by its files and folders."""
        return True

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(index) for index in range(len(self)))


@dataclass(frozen=True)
class Pair:
    """A picture file and its label file; either may be missing."""

    name: str
    picture: Path
    mask: Path


class PairedFiles(DataSet):
    """A data set whose samples are pairs of files; a subclass finds them.

    Attributes:
        pairs: the files, in the split's order.
        masks: how to read the label files.
    """

    pairs: list[Pair]
    masks: Masks

    def __len__(self) -> int:
        return len(self.pairs)

    def picture_names(self) -> list[str]:
        return [pair.name for pair in self.pairs]

    def sample(self, index: int) -> Sample:
        pair = self.pairs[index]
        image, labels = read_picture(pair.picture), self.masks.read(pair.mask)
        if labels.shape != image.shape[:2]:
            sizes = format_size(labels.shape), format_size(image.shape[:2])
            raise SampleError(
                "size", f"{pair.mask} is {sizes[0]} but its picture is {sizes[1]}: sizes must agree{_turn_hint(pair)}"
            )
        return Sample(pair.name, image, labels)

    def doubt(self, index: int) -> str | None:
        pair = self.pairs[index]
        picture, mask = orientation(pair.picture), orientation(pair.mask)
        if picture == mask:
            return self.masks.doubt(pair.mask)
        told = f"{pair.picture} has orientation {picture}, {pair.mask} has {mask if mask > 1 else 'none'}"
        return f"{told}: each is turned by its own"


def _turn_hint(pair: Pair) -> str:
    picture, mask = orientation(pair.picture), orientation(pair.mask)
    if picture == mask:
        return ""
    turned = f"picture (orientation {picture})" if picture > 1 else f"label picture (orientation {mask})"
    return f"; EXIF data rotate the {turned}, and it was labelled as it is stored: turn its pixels, or both files"


def split_of(word: str | None) -> str | None:
    """'Validation' -> 'val'; None if the word does not name a split."""
    return _SPLITS.get((word or "").strip().lower())


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a list of pictures; raises InputError if the file is not text."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of pictures: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def listed(folder: Path, pattern: str, layout: str) -> list[Path]:
    """The files in a folder that match a pattern, sorted; raises InputError if there are none."""
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not found:
        raise InputError(f"no {pattern} in {folder}: the data set's folder holds {layout}")
    return found
