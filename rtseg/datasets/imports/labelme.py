"""LabelMe (Wada): one JSON file per picture. Shapes are drawn in file order."""

import binascii
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from rtseg.core.errors import InputError
from rtseg.datasets.imports.base import (
    Annotated,
    Cover,
    Export,
    Shape,
    box,
    ellipse,
    pasted,
    polygon,
    read_json,
    refused,
)
from rtseg.datasets.imports.pictures import PictureFinder, clean_parts, files_below


class LabelMe(Export):
    """LabelMe's JSON files, with their pictures beside them, inside them, or at `imagePath`."""

    about: ClassVar[str] = "a JSON file of LabelMe, or a folder of them"

    def __init__(self, source: Path, finder: PictureFinder) -> None:
        super().__init__(source, finder)
        self.files = [source] if source.is_file() else files_below(source, (".json",))
        if not self.files:
            raise InputError(f"{source} holds no *.json: name {self.about}")

    def __iter__(self) -> Iterator[Annotated]:
        root = self.source if self.source.is_dir() else self.source.parent
        for path in self.files:
            data = read_json(path, self.about)
            if not isinstance(data, dict) or not isinstance(data.get("shapes"), list) or "imagePath" not in data:
                raise InputError(f"{path} is not a LabelMe file: it has no 'shapes' and 'imagePath'; take it away, or "
                                 f"name {self.about}")  # fmt: skip
            shapes = tuple(_shape(one, path) for one in data["shapes"])
            size = data.get("imageHeight"), data.get("imageWidth")
            size_hw = (int(size[0]), int(size[1])) if size[0] and size[1] else None
            name = path.relative_to(root).with_suffix("").as_posix()
            yield Annotated(str(path), name, self._picture(path, data), shapes, size_hw)

    def _picture(self, path: Path, data: dict[str, Any]) -> Path | bytes:
        named = str(data["imagePath"]).replace("\\", "/")
        if clean_parts(named) and (beside := path.parent / named).is_file():
            return beside
        if data.get("imageData"):
            try:
                return b64decode(data["imageData"], validate=True)
            except (binascii.Error, ValueError, TypeError) as error:
                raise InputError(f"{path}: its imageData is not a picture: {error}") from error
        return self.finder.find(named, str(path))


def _shape(shape: Any, path: Path) -> Shape:
    try:
        label, kind = str(shape["label"]), str(shape.get("shape_type") or "polygon")
        where = f"{path}, {label}"
        return Shape(label, _cover(shape, kind, where))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} has a shape that cannot be read ({error!r}): save it again with LabelMe") from error


def _cover(shape: dict[str, Any], kind: str, where: str) -> Cover:
    points = shape["points"]
    if kind == "polygon":
        return polygon(points, where)
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return box(left, top, right, bottom, where)
    if kind == "circle":
        (x, y), edge = points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        return ellipse(x, y, radius, radius, where)
    if kind == "mask":
        mask = cv2.imdecode(np.frombuffer(b64decode(shape["mask"]), np.uint8), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise InputError(f"{where} has a mask that is not a PNG picture: save it again with LabelMe")
        return pasted(mask > 0, round(points[0][0]), round(points[0][1]), where)
    raise refused(where, kind)
