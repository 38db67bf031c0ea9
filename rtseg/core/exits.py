"""Regions of a frame that stop at an early exit."""

from dataclasses import dataclass
from typing import Any

from rtseg.core.sizes import Size

REGIONS = "regions"
"""As an exit: the sure regions of a frame stop early, and the others go on."""


@dataclass(frozen=True)
class Regions:
    """Which regions of a frame need no more than an early exit.

    Attributes:
        sure: a cell of the exit's logits is sure if the probability of its best class is at least this: with 0 all
            cells are, above 1 none is.
        tile_hw: (height, width), in pixels of the network's input, of the tiles that keep the exit's labels where all
            their cells are sure; multiples of the card's `size_multiple`.
    """

    sure: float
    tile_hw: Size

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Regions":
        """What `dataclasses.asdict` made `data` of."""
        return cls(float(data["sure"]), (int(data["tile_hw"][0]), int(data["tile_hw"][1])))
