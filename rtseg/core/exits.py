"""What may be asked of a network that can stop at early exits."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name
from rtseg.core.sizes import Size

if TYPE_CHECKING:
    from rtseg.core.card import Exit

REGIONS = "regions"
_TILE_HALOS = 4  # sides of tiles that were not calibrated: with its halo each is 2.25 times its work


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


def check_exit(network: str, exits: "Sequence[Exit]", wish: str) -> None:
    """Raises UsageError unless a network can stop as `RunSpec.exit` wishes.

    Args:
        network: its name.
        exits: those of its card.
        wish: a name; 'auto', for which the card must say where frames may stop; or what `find_regions` takes.
    """
    names = [each.name for each in exits]
    if not names:
        raise UsageError(f"{network} has no early exits: they come by training with --set exits=2")
    if wish == "auto":
        if all(each.threshold is None for each in exits):
            raise UsageError(f"the exits of {network} are not calibrated: run rtseg eval --calibrate-exits 0.002 "
                             f"first, or name one of {', '.join(names)}")  # fmt: skip
    elif find_regions(network, exits, wish) is None and wish not in names:
        raise unknown_name(f"exit of {network}", wish, ["auto", *names, REGIONS])


def find_regions(network: str, exits: "Sequence[Exit]", wish: str) -> "tuple[Exit, Regions] | None":
    """The exit whose unsure regions alone go on, and which these are; None for a wish of whole frames.

    Args:
        network: its name.
        exits: those of its card.
        wish: 'regions' takes what was calibrated, 'NAME:SURE' an exit and the probability of the best class.

    Raises:
        UsageError: nothing was calibrated, there is no such exit or probability, or the exit has no halo.
    """
    if wish == REGIONS:
        for each in exits:
            if each.regions is not None:
                return each, each.regions
        named = " or ".join(f"{each.name}:0.9" for each in exits if each.halo) or "--exit auto"
        raise UsageError(f"{network} has no regions calibrated that save work: run rtseg eval --calibrate-exits 0.002, "
                         f"or try {named}")  # fmt: skip
    name, colon, text = wish.rpartition(":")
    if not colon:
        return None
    early = {each.name: each for each in exits[:-1]}
    if name not in early:
        raise unknown_name(f"early exit of {network}", name, list(early))
    try:
        sure = float(text)
    except ValueError:
        sure = -1.0
    if not (isfinite(sure) and sure >= 0):
        raise UsageError(f"exit {wish!r}: after the colon comes a probability, 0 or more, for example {name}:0.9")
    halo = early[name].halo
    if halo is None:
        raise UsageError(f"the regions of {network} cannot be refined from {name} on: what follows sees the whole "
                         "picture (it pools over all of it), or the network was exported before regions were "
                         "measured; use --exit auto, or export it again")  # fmt: skip
    regions = early[name].regions
    return early[name], Regions(sure, regions.tile_hw if regions else (_TILE_HALOS * halo, _TILE_HALOS * halo))
