"""The elements of blocks and traffic: items to draw, ground marks, shadows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rtseg.scenes.cars import CarKind
from rtseg.scenes.painter import Painter
from rtseg.scenes.style import Colour, Style

BLOCK = 48.0  # metres of road in one block
LOTS, KERBSIDE, CARRIAGEWAY = range(3)  # drawing order within a slab of the road

Draw = Callable[[Painter], None]


@dataclass(frozen=True)
class Item:
    """Something to draw: its sorting position along the road, its layer, and the distance up to which it is drawn.

    Houses and fences are sorted by their far end, so that things in front of them are drawn later.
    """

    s: float
    layer: int
    reach: float
    draw: Draw


@dataclass(frozen=True)
class Mark:
    """A rectangle on the ground between u0 and u1, s0 and s1, drawn up to `reach` metres away."""

    u: tuple[float, float]
    s: tuple[float, float]
    colour: Colour
    label: int
    reach: float = 90.0


@dataclass(frozen=True)
class Shadow:
    """A convex ground polygon, float (N, 3), with its extent along the road."""

    polygon: np.ndarray
    low: float
    high: float


def shadow(corners: Sequence[tuple[float, float]]) -> Shadow:
    """The shadow with these corners (u, s)."""
    polygon = np.array([(u, 0.0, s) for u, s in corners])
    return Shadow(polygon, float(polygon[:, 2].min()), float(polygon[:, 2].max()))


@dataclass
class Block:
    """The contents of a block: items to draw, ground marks, shadows."""

    items: list[Item] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)


def car_shadow(style: Style, kind: CarKind, at: tuple[float, float]) -> Shadow:
    """The shadow of a car on the ground."""
    reach = 0.75 * kind.height if style.light.sun else 0.12
    low = at[0] - kind.width / 2 - (reach if style.sun_side > 0 else 0.1)
    high = at[0] + kind.width / 2 + (reach if style.sun_side < 0 else 0.1)
    s0, s1 = at[1] - 0.15, at[1] + kind.length + 0.2
    return shadow([(low, s0), (high, s0), (high, s1), (low, s1)])
