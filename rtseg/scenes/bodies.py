"""Permanent things along the street: houses, fences, posts, signs. Each function draws one of them."""

from dataclasses import dataclass
from functools import lru_cache
from math import log2

import numpy as np

from rtseg.scenes.painter import NEAR, Painter, Polygons, pack
from rtseg.scenes.style import BUILDING, POLE, SIGN, Colour
from rtseg.scenes.textures import Facade

CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Corners of a rectangle, float (4, 2)."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def dim(colour: Colour, factor: float) -> Colour:
    """`colour` times `factor`."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def draw_textured_wall(p: Painter, levels: tuple[np.ndarray, ...], u: float, s: tuple[float, float], y1: float) -> None:
    """Maps a texture onto a wall along the road from s[0] to s[1], 0 to `y1` high, cut where it passes the camera."""
    near = max(s[0], p.camera.s + NEAR)
    if s[1] - near < 0.2:
        return
    detail = p.camera.focal / (near - p.camera.s + 0.35 * (s[1] - near))
    level = int(log2(max(levels[0].shape[0] / y1 / detail, 1.0)) + 0.5)
    image = levels[min(level, len(levels) - 1)]
    p.wall(image, u, (near, s[1]), y1, (near - s[0]) / (s[1] - s[0]) * image.shape[1])


def draw_building(p: Painter, facade: Facade, side: int, line: float, s: tuple[float, float]) -> None:
    """A house whose front stands at u = side * line."""
    ahead = s[0] - p.camera.s
    u, back = side * line, side * (line + 8.0)
    height, ridge = facade.height, facade.height + facade.roof_height
    middle = (u + back) / 2
    near = max(s[0], p.camera.s + NEAR)
    if s[1] <= near:
        return
    lit = p.style.light.sun and side != p.style.sun_side
    roof = dim(facade.roof, 1.0 if lit else 0.75) if facade.roof_height else None
    house = _house(facade.wall, roof, ahead > NEAR, 4 < ahead < 100)
    if len(house.ends):
        inner, low, high, deep = middle - side * 0.5, ridge - 0.4, ridge + 1.1, s[0] + 0.6
        corners = np.array(
            [
                (u, 0, near), (back, 0, near), (back, height, near), (u, height, near),
                (middle, ridge, near), (middle, ridge, s[1]), (u, height, s[1]),
                (inner, low, deep), (inner, low, deep + 0.9), (inner, high, deep + 0.9), (inner, high, deep),
                (middle - 0.5, low, deep), (middle + 0.5, low, deep),
                (middle + 0.5, high, deep), (middle - 0.5, high, deep),
            ]
        )  # fmt: skip
        p.body(Polygons(corners[house.points], house.ends, house.colours), max(ahead, 0))
    draw_textured_wall(p, facade.levels[int(lit)], u, s, height)


@lru_cache(maxsize=128)
def _house(wall: Colour, roof: Colour | None, end_visible: bool, chimney: bool) -> Polygons:
    """The faces of a house without its front; `points` are indices into the corners in `draw_building`."""
    faces: list[tuple[list[int], Colour]] = []
    if roof is not None:
        faces.append(([3, 4, 5, 6], roof))
    if end_visible:
        faces.append(([0, 1, 2, 3], dim(wall, 0.72)))
    if end_visible and roof is not None:
        faces.append(([3, 2, 4], dim(wall, 0.7)))
    if chimney and roof is not None:
        faces += [([7, 8, 9, 10], dim(wall, 0.85)), ([11, 12, 13, 14], dim(wall, 0.62))]
    if not faces:
        return Polygons(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 4)))
    return pack([(np.array(ids), colour) for ids, colour in faces], BUILDING)


def draw_pole(
    p: Painter, at: tuple[float, float], height: float, radius: float, colour: Colour, arm: float = 0.0
) -> None:
    """A post at (u, s); `arm` metres of bracket to the side carry a lamp."""
    p.flat((at[0], 0.0, at[1]), _pole(height, radius, colour, -arm if p.style.mirrored else arm))


@lru_cache(maxsize=256)
def _pole(height: float, radius: float, colour: Colour, arm: float = 0.0) -> Polygons:
    post = np.array([(-radius, 0), (radius, 0), (radius * 0.7, height), (-radius * 0.7, height)])
    parts = [(post, colour), (box(radius * 0.2, 0, radius * 0.7, height), dim(colour, 1.35))]
    if arm:
        low, high = sorted((0.0, arm))
        parts.append((box(low, height - 0.12, high, height + 0.02), colour))
        parts.append((box(arm - 0.32, height - 0.16, arm + 0.32, height + 0.03), dim(colour, 1.2)))
        parts.append((box(arm - 0.26, height - 0.2, arm + 0.26, height - 0.14), (200, 215, 220)))
    return pack(parts, POLE)


@dataclass(frozen=True, eq=False)
class SignKind:
    """A plate: outline, rim colour, face colour and size in metres."""

    outline: np.ndarray
    rim: Colour
    face: Colour
    size: float


_TRIANGLE = np.array([(-1.0, -0.75), (1.0, -0.75), (0.0, 1.0)])
_SQUARE = box(-1, -1, 1, 1)
SIGNS = (
    SignKind(CIRCLE, (40, 30, 200), (240, 240, 240), 0.38),
    SignKind(CIRCLE, (230, 230, 230), (170, 80, 20), 0.36),
    SignKind(_TRIANGLE, (40, 30, 200), (240, 240, 240), 0.48),
    SignKind(CIRCLE, (240, 240, 240), (40, 30, 190), 0.38),
    SignKind(_SQUARE * (0.75, 1.0), (235, 235, 235), (150, 75, 25), 0.5),
    SignKind(_SQUARE * (1.6, 1.0), (230, 230, 230), (70, 95, 20), 0.5),
    SignKind(_SQUARE * (1.5, 0.9), (40, 40, 40), (225, 228, 228), 0.45),
    SignKind(_SQUARE * (0.7, 1.0), (60, 60, 60), (50, 190, 230), 0.5),
)


def draw_sign(p: Painter, at: tuple[float, float], kind: SignKind, height: float) -> None:
    """A post with a plate whose centre is `height` metres up."""
    u, s = at
    p.flat((u, 0.0, s), _post(0.05, height, (120, 120, 118)))
    p.flat((u, height, s), _plate(kind, p.camera.focal / max(s - p.camera.s, NEAR) < 25.0))


@lru_cache(maxsize=256)
def _post(radius: float, height: float, colour: Colour) -> Polygons:
    return pack([(box(-radius, 0, radius, height), colour)], POLE)


@lru_cache(maxsize=64)
def _plate(kind: SignKind, far: bool) -> Polygons:
    parts = [(kind.outline * kind.size, kind.rim), (kind.outline * kind.size * 0.76, kind.face)]
    if far:
        return pack(parts, SIGN)
    mark = dim(kind.rim, 0.3) if sum(kind.face) > 450 else (232.0, 234.0, 235.0)
    wide = 0.42 * kind.size * float(kind.outline[:, 0].max())
    parts += [(box(-wide, y - 0.07 * kind.size, wide, y + 0.07 * kind.size), mark) for y in (-0.04, 0.08)]
    return pack(parts, SIGN)


def draw_traffic_light(p: Painter, at: tuple[float, float], phase: float) -> None:
    """A signal head on a post; `phase` 0..1 chooses the lit lamp."""
    u, s = at
    p.flat((u, 0.0, s), _post(0.07, 3.4, (70, 72, 72)))
    lit = 0 if phase < 0.45 else 1 if phase < 0.5 else 2
    parts = [(box(-0.24, -0.55, 0.24, 0.6), (28.0, 28.0, 28.0))]
    for index, colour in enumerate(((50, 50, 240), (40, 170, 250), (120, 220, 60))):
        parts.append((CIRCLE * 0.12 + (0, 0.36 - 0.35 * index), dim(colour, 1.0 if index == lit else 0.25)))
    p.flat((u, 3.0, s), pack(parts, SIGN))


def draw_board(p: Painter, side: int, line: float, s: float, y: float, colour: Colour) -> None:
    """A shop sign that sticks out from the wall towards the road."""
    rim: Colour = (255 - colour[0] * 0.6, 255 - colour[1] * 0.6, 255 - colour[2] * 0.6)
    parts = [(box(-0.5, -0.42, 0.5, 0.42), rim), (box(-0.43, -0.35, 0.43, 0.35), colour)]
    parts.append((box(-0.3, -0.08, 0.3, 0.1), (225, 228, 230)))
    p.flat((side * (line - 0.55), y, s), pack(parts, SIGN))
