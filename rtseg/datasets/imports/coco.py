"""COCO (Lin et al. 2014): one JSON file with polygons or run lengths, drawn in file order."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rtseg.core.errors import InputError
from rtseg.datasets.imports.base import Annotated, Cover, Export, Shape, from_runs, pasted, polygon, read_json
from rtseg.datasets.imports.pictures import PictureFinder, clean_parts
from rtseg.datasets.masks import Colour
from rtseg.pictures.outlines import fill
from rtseg.pictures.rle import runs_of


class Coco(Export):
    """An annotation file: `images`, `annotations`, `categories`."""

    about: ClassVar[str] = "a JSON file of COCO annotations, or its folder"

    def __init__(self, source: Path, finder: PictureFinder) -> None:
        super().__init__(source, finder)
        self.path = self.only_file("*.json")
        data = read_json(self.path, self.about)
        if not isinstance(data, dict) or not {"images", "annotations", "categories"} <= set(data):
            raise InputError(f"{self.path} has no images, annotations and categories: it should be {self.about}")
        self._data: dict[str, list[dict[str, Any]]] = data
        try:
            self._names = {one["id"]: str(one["name"]) for one in data["categories"]}
            self.classes = {str(one["name"]): _colour(one.get("color")) for one in data["categories"]}
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.path} has a category without {error}: export it again") from error

    def __iter__(self) -> Iterator[Annotated]:
        of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self._data["annotations"]:
            of_image[annotation.get("image_id")].append(annotation)
        for image in self._data["images"]:
            try:
                name, size_hw = str(image["file_name"]), (int(image["height"]), int(image["width"]))
                where = f"{self.path}, image {name}"
                shapes = tuple(
                    Shape(self._names[one["category_id"]], _cover(one.get("segmentation"), where))
                    for one in of_image[image["id"]]
                )
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{self.path} has an entry that cannot be read ({error!r}): export it again"
                ) from error
            parts = clean_parts(name)
            stem = "/".join((*parts[:-1], Path(parts[-1]).stem)) if parts else ""
            yield Annotated(where, stem, self.finder.find(name, where), shapes, size_hw)
        known = {image["id"] for image in self._data["images"]}
        if lost := sum(len(of_image[one]) for one in of_image if one not in known):
            self.notes = [f"{lost} annotations are left out: they belong to no picture of {self.path}"]


def _cover(segmentation: Any, where: str) -> Cover:
    """Run lengths, as text or numbers, or polygons that together form one shape."""
    if not segmentation:
        raise InputError(f"{where} has an annotation without a segmentation, a box perhaps: remove it")
    if isinstance(segmentation, dict):
        counts, (height, width) = segmentation["counts"], segmentation["size"]
        runs = runs_of(counts) if isinstance(counts, str) else np.array(counts, np.int64)
        return pasted(from_runs(runs, (height, width), where, columns=True), 0, 0, where)
    rings = [np.array(flat, np.float64).reshape(-1, 2) for flat in segmentation]
    for ring in rings:
        polygon(ring, where)  # raises for an invalid ring
    return lambda size: np.logical_or.reduce([fill([ring], size) for ring in rings])


def _colour(value: Any) -> Colour | None:
    """Red, green, blue; None if the value is not a colour."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(isinstance(part, int) and 0 <= part <= 255 for part in value):
        return None
    return value[0], value[1], value[2]
