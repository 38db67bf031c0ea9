"""Regions of a frame that stop at an early exit."""

from dataclasses import dataclass
from typing import Any

from rtseg.core.sizes import Size

REGIONS = "regions"
"""Name of the exit mode in which a frame's sure regions stop early and the others continue."""


@dataclass(frozen=True)
class Regions:
    """Which regions of a frame stop at an early exit.

    Attributes:
        sure: a cell of the exit's logits is sure if its best class has at least this probability; with 0 all cells are
            sure, with more than 1 none.
        tile_hw: (height, width) of tiles in pixels of the network's input, multiples of the card's `size_multiple`. A
            tile keeps the exit's labels if all its cells are sure.
    """

    sure: float
    tile_hw: Size

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Regions":
        """Undoes `dataclasses.asdict`."""
        return cls(float(data["sure"]), (int(data["tile_hw"][0]), int(data["tile_hw"][1])))
