"""Label sets: class names, their colours, and the id that means 'not labelled'."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtseg.core.checked import check_fields, is_text, is_texts, is_whole
from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name


@dataclass(frozen=True)
class LabelSet:
    """The classes of a network or data set; class i is `names[i]`, drawn in `palette_rgb[i]`."""

    name: str
    names: tuple[str, ...]
    palette_rgb: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255

    def __post_init__(self) -> None:
        check_fields(self, {"name": is_text, "names": is_texts, "ignore_index": is_whole(0)})
        if not all(0 <= part <= 255 for colour in self.palette_rgb for part in colour):
            raise ValueError(f"{self.name}: the colours {self.palette_rgb} are not of 0 to 255")
        "".join(self.names).encode()  # TypeError or ValueError if not text: OpenCV would end the process
        if len(self.names) != len(self.palette_rgb):
            raise ValueError(f"{self.name}: {len(self.names)} names but {len(self.palette_rgb)} colours")
        if self.ignore_index < len(self.names):
            raise ValueError(f"{self.name}: ignore index {self.ignore_index} is also class {self.ignore_index}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette_bgr(self) -> np.ndarray:
        """uint8 (256, 3) lookup table in OpenCV's colour order; ids without a class are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = np.asarray(self.palette_rgb, np.uint8)[:, ::-1]
        return table

    def index(self, name: str) -> int:
        """The id of class `name`; raises UsageError with similar names."""
        if not isinstance(name, str) or name not in self.names:
            raise unknown_name("class", name, list(self.names))
        return self.names.index(name)

    def split_names(self, text: str) -> tuple[str, ...]:
        """'car, road, route' -> ('car', 'road, route') if that is a class; unknown names stay as they are."""
        if not isinstance(text, str):
            raise UsageError(f"classes are given as text, such as 'car,road', not {text!r}")
        pieces = text.split(",")
        found, first = [], 0
        while first < len(pieces):
            rows = [",".join(pieces[first:stop]).strip() for stop in range(len(pieces), first, -1)]
            taken = next((place for place, row in enumerate(rows) if row in self.names), len(rows) - 1)
            found.append(rows[taken])
            first = len(pieces) - taken
        return tuple(found)

    def indices(self, names: Iterable[str]) -> tuple[int, ...]:
        """The ids of classes; raises UsageError for what are no names, and for one that is unknown."""
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise UsageError(f"classes are given as a list of names, such as ['car', 'road'], not {names!r}")
        return tuple(self.index(name) for name in names)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "names": list(self.names),
            "palette_rgb": [list(colour) for colour in self.palette_rgb],
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LabelSet":
        palette = tuple((int(r), int(g), int(b)) for r, g, b in data["palette_rgb"])
        names = data["names"]
        return cls(data["name"], tuple(names) if isinstance(names, list) else names, palette, int(data["ignore_index"]))


# Brostow et al. 2009 colours; the 11 classes and their order are those of SegNet (Badrinarayanan 2017).
CAMVID11 = LabelSet(
    name="camvid11",
    names=(
        "sky", "building", "pole", "road", "pavement", "tree",
        "sign", "fence", "car", "pedestrian", "cyclist",
    ),
    palette_rgb=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    ignore_index=11,
)  # fmt: skip


def voc_colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue of PASCAL VOC's colour map (Everingham et al. 2010); 0 is black.

    The bits of the number go to red, green and blue in turn, from the highest colour bit down.
    """
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(8)) for channel in range(3)
    )
    return red, green, blue
