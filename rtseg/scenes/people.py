"""Pedestrians and cyclists: flat figures with limbs that move over time."""

from dataclasses import dataclass
from functools import lru_cache
from math import sin

import numpy as np

from rtseg.scenes.bodies import CIRCLE, box, dim
from rtseg.scenes.painter import Painter, Part, Polygons, pack
from rtseg.scenes.style import CYCLIST, PEDESTRIAN, Colour, vary

_COATS: tuple[Colour, ...] = (
    (30, 28, 28), (52, 42, 36), (40, 46, 62), (70, 40, 30), (60, 60, 66), (40, 40, 130), (60, 170, 190),
    (150, 150, 150),
)  # fmt: skip
_COAT_SHARES = (0.2, 0.15, 0.15, 0.12, 0.12, 0.1, 0.08, 0.08)
_TROUSERS: tuple[Colour, ...] = ((40, 36, 34), (85, 60, 45), (60, 66, 72))
_SKINS: tuple[Colour, ...] = ((120, 150, 200), (70, 95, 140), (140, 170, 215))
_HAIRS: tuple[Colour, ...] = ((24, 28, 34), (40, 62, 88), (90, 100, 108))

_HEAD = CIRCLE * (0.1, 0.135) + (0, 1.6)
_HAIR = CIRCLE * (0.108, 0.075) + (0, 1.675)
_HAIR_ABOVE = CIRCLE * (0.1, 0.06) + (0, 1.7)
_BACK_OF_HEAD = CIRCLE * (0.108, 0.12) + (0, 1.625)
_COAT = np.array(
    [(-0.19, 0.78), (0.19, 0.78), (0.23, 1.2), (0.2, 1.4), (0.08, 1.5), (-0.08, 1.5), (-0.2, 1.4), (-0.23, 1.2)]
)
_BLACK: Colour = (26, 26, 28)
_TYRE = pack([(box(-0.03, -0.35, 0.03, 0.35), _BLACK)], CYCLIST)
_FAR_COAT = _COAT * (1.3, 1)
_WHEEL = pack([(np.column_stack([0 * CIRCLE[:, 0], CIRCLE[:, 1] * 0.35 + 0.35, CIRCLE[:, 0] * 0.35]), _BLACK)], CYCLIST)
_RIDER = _COAT * (0.95, 0.82) + (0, 0.28)
_HELMET = CIRCLE * (0.125, 0.085) + (0, 1.7)
_FAR = 22.0  # pixels per metre; smaller figures are drawn with fewer parts


@dataclass(frozen=True)
class Person:
    """Clothes and build; `stride` is the visible share of a side view's swing."""

    coat: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    height: float
    stride: float
    cadence: float
    from_behind: bool


def make_person(rng: np.random.Generator) -> Person:
    """Someone in mostly dark clothes."""
    return Person(
        vary(rng, _COATS[int(rng.choice(len(_COATS), p=_COAT_SHARES))], 9),
        vary(rng, _TROUSERS[int(rng.integers(3))], 8),
        vary(rng, _SKINS[int(rng.integers(3))], 8),
        vary(rng, _HAIRS[int(rng.integers(3))], 6),
        float(rng.uniform(1.55, 1.88)),
        float(rng.uniform(0.3, 1.0)),
        float(rng.uniform(5.0, 7.0)),
        bool(rng.random() < 0.5),
    )


def _limb(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    half = width / 2
    return np.array([(x0 - half, y0), (x0 + half, y0), (x1 + half * 0.75, y1), (x1 - half * 0.75, y1)])


def _head(person: Person) -> list[Part]:
    if person.from_behind:
        return [(_HEAD, person.skin), (_BACK_OF_HEAD, person.hair)]
    return [(_HAIR, person.hair), (_HEAD, person.skin), (_HAIR_ABOVE, person.hair)]


@lru_cache(maxsize=256)
def _walking(person: Person, far: bool, swing: float) -> Polygons:
    """A pedestrian with the feet `swing` metres to either side of the middle."""
    sleeve = dim(person.coat, 0.85)
    if far:
        legs = [(_limb(x, 0.9, x + move, 0.0, 0.18), person.trousers) for x, move in ((-0.1, swing), (0.1, -swing))]
        return pack([*legs, (_FAR_COAT, person.coat), (_HEAD, person.skin)], PEDESTRIAN)
    parts: list[Part] = [
        (_limb(-0.09, 0.9, -0.1 + swing, 0.04, 0.18), dim(person.trousers, 0.8)),
        (box(-0.19 + swing, 0, -0.03 + swing, 0.07), (25, 25, 28)),
        (_limb(0.09, 0.9, 0.1 - swing, 0.04, 0.18), person.trousers),
        (box(0.03 - swing, 0, 0.19 - swing, 0.07), (25, 25, 28)),
        (_limb(-0.23, 1.41, -0.28 - swing * 0.8, 0.84, 0.12), sleeve),
        (_COAT, person.coat),
        (_limb(0.23, 1.41, 0.28 + swing * 0.8, 0.84, 0.12), sleeve),
        *_head(person),
    ]
    return pack(parts, PEDESTRIAN)


@lru_cache(maxsize=256)
def _riding(person: Person, comes: bool, pedal: float) -> Polygons:
    """A cyclist with one foot `pedal` metres up; without wheels."""
    sleeve = dim(person.coat, 0.85)
    helmet = person.hair if person.stride < 0.65 else (220.0, 222.0, 225.0)
    parts: list[Part] = [
        (box(-0.28, 1.0, 0.28, 1.05), _BLACK),
        (box(-0.08, 0.84, 0.08, 0.95), _BLACK),
        (box(-0.025, 0.3, 0.025, 0.9), dim(person.coat, 0.7)),
        (_limb(-0.12, 1.0, -0.12, 0.32 + pedal, 0.16), dim(person.trousers, 0.8)),
        (_limb(0.12, 1.0, 0.12, 0.32 - pedal, 0.16), person.trousers),
        (_limb(-0.21, 1.44, -0.28, 1.04, 0.11), sleeve),
        (_limb(0.21, 1.44, 0.28, 1.04, 0.11), sleeve),
        (_RIDER, person.coat),
        (_HEAD, person.skin if comes else person.hair),
        (_HELMET, helmet),
    ]
    return pack(parts, CYCLIST)


def _between(still: Polygons, moved: Polygons, share: float) -> Polygons:
    """`still` with its points moved by `share` of the way to `moved`: limbs move in straight lines."""
    return Polygons(still.points + share * (moved.points - still.points), still.ends, still.colours)


def draw_person(p: Painter, person: Person, at: tuple[float, float], t: float) -> None:
    """A pedestrian at (u, s), walking; `t` in seconds."""
    u, s = at
    if s - p.camera.s < 1.6:
        return
    swing = 0.34 * person.stride * sin(person.cadence * t)
    far = p.camera.focal / (s - p.camera.s) < _FAR
    figure = _between(_walking(person, far, 0.0), _walking(person, far, 1.0), swing)
    p.flat((u, 0.0, s), figure, 1.0 if far else person.height / 1.75)


def draw_cyclist(p: Painter, person: Person, at: tuple[float, float], direction: int, t: float) -> None:
    """A cyclist at (u, s), riding with (1) or against (-1) the camera's direction."""
    u, s = at
    ahead = s - p.camera.s
    if ahead < 2.0:
        return
    for offset in (0.54, -0.54):
        p.body(Polygons(np.add(_WHEEL.points, (u, 0.0, s + offset)), _WHEEL.ends, _WHEEL.colours), ahead)
        p.flat((u, 0.35, s + offset), _TYRE)
    pedal = 0.17 * sin(person.cadence * t)
    figure = _between(_riding(person, direction < 0, 0.0), _riding(person, direction < 0, 1.0), pedal)
    p.flat((u, 0.0, s), figure, person.height / 1.75)
