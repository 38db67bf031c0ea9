"""CVAT for images 1.1: one XML file. Shapes are drawn by `z_order`, equal ones in file order."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np

from rtseg.core.errors import InputError
from rtseg.core.files import check_regular
from rtseg.datasets.base import split_of
from rtseg.datasets.imports.base import (
    Annotated,
    Cover,
    Export,
    Shape,
    box,
    ellipse,
    from_runs,
    pasted,
    polygon,
    refused,
)
from rtseg.datasets.imports.pictures import PictureFinder, clean_parts
from rtseg.datasets.masks import Colour


class Cvat(Export):
    """`annotations.xml` in the format 'CVAT for images 1.1'."""

    about: ClassVar[str] = "the XML file of an export 'CVAT for images 1.1', or its folder"

    def __init__(self, source: Path, finder: PictureFinder) -> None:
        super().__init__(source, finder)
        self.path = self.only_file("*.xml")
        for element in self._elements():
            if element.tag == "labels":
                self.classes |= {label.findtext("name", ""): _colour(label) for label in element.iter("label")}
            if element.tag == "image":
                return
            if element.tag == "track":
                break
        else:
            if element.tag == "annotations":
                raise InputError(f"{self.path} holds no <image>: export the task as 'CVAT for images 1.1'")
            raise InputError(f"{self.path} begins with <{element.tag}>: it should be {self.about}")
        raise InputError(f"{self.path} is of the format 'CVAT for video': export it as 'CVAT for images 1.1'")

    def _elements(self) -> Iterator[Element]:
        """Yields every element once it is complete; the last is the root."""
        try:
            with check_regular(self.path).open("rb") as file:
                for _, element in iterparse(file):
                    yield element
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}") from error
        except ParseError as error:
            raise InputError(f"{self.path} is not an XML file: {error}; it should be {self.about}") from error

    def __iter__(self) -> Iterator[Annotated]:
        for element in self._elements():
            if element.tag == "image":
                yield self._picture(element)
                element.clear()

    def _picture(self, image: Element) -> Annotated:
        name = image.get("name", "")
        where = f"{self.path}, image {name}"
        try:
            size_hw = int(image.get("height", "")), int(image.get("width", ""))
            ordered = sorted((one for one in image if one.tag != "tag"), key=lambda one: int(one.get("z_order", "0")))
        except ValueError as error:
            raise InputError(f"{where} has a size or a z_order that is not a number: {error}") from error
        shapes = tuple(Shape(one.get("label", ""), _cover(one, f"{where}, {one.get('label')}")) for one in ordered)
        split = split_of(image.get("subset"))
        parts = clean_parts(name)
        stem = "/".join((*parts[:-1], Path(parts[-1]).stem)) if parts else ""
        return Annotated(where, f"{split}/{stem}" if split else stem, self.finder.find(name, where), shapes, size_hw)


def _cover(shape: Element, where: str) -> Cover:
    try:
        if shape.tag == "polygon":
            return polygon([pair.split(",") for pair in shape.get("points", "").split(";") if pair], where)
        if shape.tag == "mask":
            height, width = int(shape.attrib["height"]), int(shape.attrib["width"])
            runs = np.array(shape.attrib["rle"].split(","), np.int64)
            mask = from_runs(runs, (height, width), where)
            return pasted(mask, int(shape.attrib["left"]), int(shape.attrib["top"]), where)
        degrees = float(shape.get("rotation", "0"))
        if shape.tag == "box":
            left, top, right, bottom = (float(shape.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
            return box(left, top, right, bottom, where, degrees)
        if shape.tag == "ellipse":
            x, y, radius_x, radius_y = (float(shape.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
            return ellipse(x, y, radius_x, radius_y, where, degrees)
    except (KeyError, ValueError) as error:
        raise InputError(f"{where}: its {shape.tag} cannot be read ({error}): export it again") from error
    raise refused(where, shape.tag)


def _colour(label: Element) -> Colour | None:
    try:
        red, green, blue = bytes.fromhex(label.findtext("color", "").lstrip("#"))
    except ValueError:
        return None
    return red, green, blue
