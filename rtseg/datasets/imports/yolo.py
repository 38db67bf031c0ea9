"""YOLO segmentation (Ultralytics): a text file per picture, a line per polygon: class x y x y …, 0 to 1.

Where polygons overlap, the smaller one is drawn on top, as in Ultralytics' training.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from rtseg.core.errors import InputError
from rtseg.core.files import read_text
from rtseg.core.sizes import Size
from rtseg.datasets.base import read_lines, split_of
from rtseg.datasets.imports.base import Annotated, Export, Shape
from rtseg.datasets.imports.pictures import PictureFinder, clean_parts, files_below
from rtseg.pictures.outlines import fill
from rtseg.sources.kinds import IMAGE_SUFFIXES, is_picture, skipped_note


class Yolo(Export):
    """A folder with `data.yaml`, pictures in `images`, and text files in `labels` beside it."""

    about: ClassVar[str] = "the data.yaml of a YOLO segmentation set, or its folder"

    def __init__(self, source: Path, finder: PictureFinder) -> None:
        super().__init__(source, finder)
        self.path = self.only_file("*.y*ml")
        try:
            self._said: Any = yaml.safe_load(read_text(self.path))
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path} cannot be read: {reason}; it should be {self.about}") from error
        self.names = self._names()
        self.classes = dict.fromkeys(self.names.values())

    def _names(self) -> dict[int, str]:
        names = self._said.get("names") if isinstance(self._said, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not names or not all(isinstance(number, int) for number in names):
            raise InputError(f"{self.path} has no 'names': it names the classes, for example names: [grass, path]")
        return {number: str(names[number]) for number in sorted(names)}

    def __iter__(self) -> Iterator[Annotated]:
        for split in ("train", "val", "test"):
            for name, picture in self._pictures(split):
                labels = _labels_of(picture)
                yield Annotated(str(labels), f"{split}/{name}", picture, tuple(self._shapes(labels)))

    def _pictures(self, split: str) -> Iterator[tuple[str, Path]]:
        """(path in the split, picture) over a split's folders and lists."""
        entries = self._said.get(split) or []
        for entry in [entries] if isinstance(entries, str) else entries:
            place = self._place(str(entry), split)
            if place.is_dir():
                self._note_skipped(place)
                yield from ((_stem(path.relative_to(place).parts), path) for path in files_below(place, IMAGE_SUFFIXES))
                continue
            for line in read_lines(place):
                parts = clean_parts(line)
                inside = parts[parts.index("images") + 1 :] if "images" in parts else parts[-1:]
                inside = inside[1:] if len(inside) > 1 and split_of(inside[0]) == split else inside
                yield _stem(inside), self.finder.find(line, str(place))

    def _note_skipped(self, folder: Path) -> None:
        """Notes the pictures that are skipped for their suffix."""
        files = files_below(folder)
        read = {path.with_suffix("") for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
        others = [path for path in files if path.with_suffix("") not in read]
        skipped = [path.name for path in others if path.is_file() and is_picture(path)]
        if skipped and (note := f"{folder}: {skipped_note(skipped)}") not in self.notes:
            self.notes.append(note)

    def _place(self, entry: str, split: str) -> Path:
        """A folder or list in data.yaml; `path` may be from another machine, and '../' may lead up too far."""
        base = Path(str(self._said.get("path") or ""))
        tries = [self.path.parent / base / entry, self.path.parent / entry,
                 self.path.parent.joinpath(*clean_parts(entry))]  # fmt: skip
        for place in tries:
            if place.exists():
                return place
        raise InputError(f"{self.path} says that {split} is in {entry}, which is not there: correct the file")

    def _shapes(self, path: Path) -> list[Shape]:
        if not path.is_file():
            return []  # a picture without objects
        found: list[tuple[float, Shape]] = []
        for number, line in enumerate(read_lines(path), start=1):
            where = f"{path}, line {number}"
            try:
                index, *values = (float(word) for word in line.split())
                ring = np.array(values).reshape(-1, 2)
            except ValueError as error:
                raise InputError(f"{where} is not a class and points x y x y …: {error}") from error
            if len(ring) < 3:
                kind = "a box" if len(values) == 4 else f"{len(ring)} points"
                raise InputError(f"{where} has {kind}, not a polygon: export the set for segmentation")
            if index not in self.names:
                raise InputError(f"{where} has class {index:g}, which {self.path} does not name: add it to 'names'")
            if not ((ring >= -0.01) & (ring <= 1.01)).all():
                raise InputError(f"{where} has points outside 0 to 1: they must be shares of the width and height")
            found.append((_area(ring), Shape(self.names[int(index)], _Scaled(ring))))
        return [shape for _, shape in sorted(found, key=lambda pair: -pair[0])]


class _Scaled:
    """A polygon in fractions of the picture's width and height."""

    def __init__(self, ring: np.ndarray) -> None:
        self._ring = ring

    def __call__(self, size_hw: Size) -> np.ndarray:
        return fill([self._ring * (size_hw[1], size_hw[0])], size_hw)


def _stem(parts: tuple[str, ...]) -> str:
    return Path(*parts).with_suffix("").as_posix()


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2


def _labels_of(picture: Path) -> Path:
    """a/images/train/1.jpg -> a/labels/train/1.txt, replacing the last folder called images."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")
