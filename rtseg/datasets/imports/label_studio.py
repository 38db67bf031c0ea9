"""Label Studio's JSON export. Regions are drawn in file order; sizes are in percent of the picture.

Brush strokes are packed like `@thi.ng/rle-pack` (K. Schmidt), with four values per pixel, of which the last counts.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rtseg.core.errors import InputError
from rtseg.core.sizes import Size
from rtseg.datasets.imports.base import (
    Annotated,
    Cover,
    Export,
    Shape,
    ellipse,
    pasted,
    polygon,
    read_json,
    refused,
    turned,
)
from rtseg.datasets.imports.pictures import PictureFinder, clean_parts
from rtseg.sources.kinds import IMAGE_SUFFIXES

_KINDS = {"brushlabels": "brush", "polygonlabels": "polygon", "rectanglelabels": "rectangle",
          "ellipselabels": "ellipse"}  # fmt: skip
_CHANNELS = 4


class LabelStudio(Export):
    """The file of a JSON export (not JSON-MIN)."""

    about: ClassVar[str] = "the file of Label Studio's export as JSON, or its folder"

    def __init__(self, source: Path, finder: PictureFinder) -> None:
        super().__init__(source, finder)
        self.path = self.only_file("*.json")
        tasks = read_json(self.path, self.about)
        known = isinstance(tasks, list) and all(isinstance(task, dict) and "data" in task for task in tasks)
        if not known or not all(isinstance(task.get("annotations"), list) for task in tasks):
            raise InputError(f"{self.path} has no tasks with 'data' and 'annotations': export as JSON, not JSON-MIN")
        self._tasks: list[dict[str, Any]] = tasks

    def __iter__(self) -> Iterator[Annotated]:
        several = 0
        for number, task in enumerate(self._tasks):
            given = [one for one in task["annotations"] if not one.get("was_cancelled")]
            several += len(given) > 1
            results = max(given, key=lambda one: str(one.get("updated_at", ""))).get("result", []) if given else []
            address = self._address(task["data"], number)
            where = f"{self.path}, task {task.get('id', number)}"
            size_hw, shapes = _read(results, where)
            name = Path(clean_parts(address)[-1]).stem if clean_parts(address) else ""
            yield Annotated(where, name, self.finder.find(address, where), tuple(shapes), size_hw)
        if several:
            self.notes = [f"{several} pictures have more than one annotation: the newest counts"]

    def _address(self, data: dict[str, Any], number: int) -> str:
        """The address of the task's picture: 'image', or the only value that names a picture."""
        if isinstance(data.get("image"), str):
            return str(data["image"])
        texts = [value for value in data.values() if isinstance(value, str)]
        pictures = [text for text in texts if Path((clean_parts(text) or ("",))[-1]).suffix.lower() in IMAGE_SUFFIXES]
        if len(pictures) != 1:
            raise InputError(f"{self.path}: task {number} has {len(pictures)} pictures; one is needed, under 'image'")
        return pictures[0]


def _read(results: list[dict[str, Any]], where: str) -> tuple[Size | None, list[Shape]]:
    """The picture's size according to the regions, and the regions."""
    size_hw: Size | None = None
    shapes = []
    for result in results:
        kind, value = str(result.get("type", "")), result.get("value") or {}
        if kind not in _KINDS:
            if "original_width" in result and kind.endswith("labels"):
                raise refused(where, kind)
            continue  # labels of the whole picture, and regions without a class
        names = value.get(kind) or []
        if len(names) != 1:
            raise InputError(f"{where} has a region of the kind {kind} with the classes {names}: it must have one")
        if result.get("image_rotation"):
            raise InputError(f"{where} was turned by {result['image_rotation']} degrees: turn the picture itself")
        try:
            size_hw = int(result["original_height"]), int(result["original_width"])
            shapes.append(Shape(str(names[0]), _cover(_KINDS[kind], value, size_hw, f"{where}, {names[0]}")))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where} has a region that cannot be read ({error!r}): export it again") from error
    return size_hw, shapes


def _cover(kind: str, value: dict[str, Any], size_hw: Size, where: str) -> Cover:
    height, width = size_hw
    scale = np.array([width, height]) / 100
    if kind == "brush":
        return pasted(brush_mask(value["rle"], size_hw, where), 0, 0, where)
    if kind == "polygon":
        return polygon(np.array(value["points"], np.float64).reshape(-1, 2) * scale, where)
    degrees = float(value.get("rotation") or 0)
    x, y = np.array([value["x"], value["y"]], np.float64) * scale
    if kind == "ellipse":
        radius_x, radius_y = np.array([value["radiusX"], value["radiusY"]], np.float64) * scale
        return ellipse(x, y, radius_x, radius_y, where, degrees)
    right, bottom = np.array([value["width"], value["height"]], np.float64) * scale + (x, y)
    corners = np.array([[x, y], [right, y], [right, bottom], [x, bottom]])
    return polygon(turned(corners, x, y, degrees), where)  # Label Studio rotates about the upper left corner


def brush_mask(packed: list[int], size_hw: Size, where: str) -> np.ndarray:
    """Bytes of a brush stroke -> bool (H, W).

    32 bits hold the number of values, 5 the number of bits per value minus one, four times 4 the number of bits of the
    four kinds of lengths minus one. Then come runs: a bit that tells whether one value is repeated, two for the kind of
    length, the length minus one, and the value or values.
    """
    height, width = size_hw
    bits = "".join(f"{byte:08b}" for byte in packed)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    count = take(32)
    if count != height * width * _CHANNELS:
        raise InputError(f"{where} has a brush of {count} values, not of the {height * width * _CHANNELS} of a picture "
                         f"of {height}x{width}: export it again")  # fmt: skip
    value_bits = take(5) + 1
    length_bits = [take(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        repeats = take(1)
        stop = done + take(length_bits[take(2)]) + 1
        if repeats:
            values[done:stop] = take(value_bits)
        else:
            values[done:stop] = [take(value_bits) for _ in range(stop - done)]
        done = stop
    return values.reshape(height, width, _CHANNELS)[..., -1] > 0
