"""Vehicles: two bevelled boxes with glass, lamps and wheels, in perspective."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rtseg.scenes.bodies import CIRCLE, dim
from rtseg.scenes.painter import NEAR, Painter, Polygons, pack
from rtseg.scenes.style import CAR, Colour


@dataclass(frozen=True)
class CarKind:
    """A vehicle's shape in metres, lengths from its rear: cabin bottom `base`, cabin top `roof`."""

    length: float
    width: float
    height: float
    belt: float
    base: tuple[float, float]
    roof: tuple[float, float]


CARS = (
    CarKind(3.9, 1.7, 1.47, 0.92, (0.05, 2.85), (0.5, 2.1)),
    CarKind(4.5, 1.75, 1.43, 0.9, (0.55, 3.2), (1.2, 2.5)),
    CarKind(4.6, 1.78, 1.5, 0.92, (0.05, 3.3), (0.4, 2.6)),
    CarKind(4.5, 1.85, 1.75, 1.05, (0.05, 3.3), (0.3, 2.7)),
    CarKind(5.0, 1.95, 2.15, 1.15, (0.02, 4.5), (0.06, 3.6)),
    CarKind(9.5, 2.45, 3.1, 1.2, (0.02, 9.48), (0.05, 9.4)),
)
PAINTS: tuple[Colour, ...] = (
    (185, 188, 190), (150, 152, 154), (95, 96, 98), (40, 40, 42), (28, 28, 30), (45, 35, 130),
    (120, 60, 30), (90, 45, 25), (225, 226, 226), (60, 90, 40), (70, 120, 160), (35, 30, 165),
)  # fmt: skip
_SIDE, _END, _TOP = [0, 4, 7, 3], [0, 1, 2, 3], [3, 2, 6, 7]
_RUBBER: Colour = (20, 20, 21)
_GLASS: Colour = (64, 58, 52)
_RED: Colour = (42, 36, 185)
_WHITE: Colour = (215, 225, 230)
_UNPAINTED: Colour = (0, 0, 0)
_SILL = 0.26  # metres between road and body


def _hexahedron(
    bottom: tuple[float, float], top: tuple[float, float], half: tuple[float, float], y: tuple[float, float]
) -> np.ndarray:
    """Corners (x, y, z): near bottom x0, x1, near top x1, x0, then the far ones; x0 is the visible side."""
    ends = zip(bottom, top, strict=True)
    return np.array(
        [
            corner
            for low, high in ends
            for corner in ((-half[0], y[0], low), (half[0], y[0], low), (half[1], y[1], high), (-half[1], y[1], high))
        ]
    )


def _inset(quad: np.ndarray, x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    """The part of a quad between fractions `x` of its width and `y` of its height."""
    a, b, c, d = quad
    places = ((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))
    return np.array([(a * (1 - v) + b * v) * (1 - w) + (d * (1 - v) + c * v) * w for v, w in places])


@lru_cache(maxsize=32)
def _shape(kind: CarKind, shows_rear: bool) -> dict[str, np.ndarray]:
    """Named groups of local corners, float (n, 3) of (x, y, z); z grows away from the camera."""
    length, half = kind.length, kind.width / 2
    base, roof = kind.base, kind.roof
    if not shows_rear:
        base, roof = (length - base[1], length - base[0]), (length - roof[1], length - roof[0])
    waist = _SILL + 0.55 * (kind.belt - _SILL)
    lower = _hexahedron((0.05, length - 0.05), (0.0, length), (half - 0.05, half), (_SILL, waist))
    upper = _hexahedron((0.0, length), (0.09, length - 0.09), (half, half - 0.07), (waist, kind.belt))
    cabin = _hexahedron(base, roof, (half - 0.09, half - 0.24), (kind.belt, kind.height))
    glass = [_inset(cabin[_SIDE], x, (0.1, 0.86)) for x in ((0.05, 0.48), (0.52, 0.95))]
    end, low_end = upper[:4], lower[:4]
    shape = {"lower": lower, "upper": upper, "cabin": cabin, "glass0": glass[0], "glass1": glass[1]}
    shape["window"] = _inset(cabin[:4], (0.06, 0.94), (0.1, 0.9))
    shape["lamp0"], shape["lamp1"] = (_inset(end, x, (0.05, 0.8)) for x in ((0.01, 0.19), (0.81, 0.99)))
    shape["bumper"], shape["plate"] = (
        _inset(low_end, (0.0, 1.0), (0.0, 0.45)),
        _inset(low_end, (0.36, 0.64), (0.6, 0.98)),
    )
    shape["grille"] = _inset(end, (0.26, 0.74), (0.1, 0.5))
    shape["under"] = np.array([(x, y, 0.2) for x, y in ((-half, 0.1), (half, 0.1), (half, _SILL), (-half, _SILL))]) * (
        0.94,
        1,
        1,
    )
    for name, x0, x1 in (("tyre0", -half + 0.04, -half + 0.25), ("tyre1", half - 0.25, half - 0.04)):
        shape[name] = np.array([(x0, 0, 0.35), (x1, 0, 0.35), (x1, 0.4, 0.35), (x0, 0.4, 0.35)])
    for index, z in enumerate((0.8, length - 0.85)):
        for name, share in (("arch", 1.18), ("wheel", 1.0), ("hub", 0.56)):
            ring = CIRCLE * 0.32 * share
            x = np.full(len(ring), -half - 0.01)
            shape[f"{name}{index}"] = np.column_stack([x, np.maximum(ring[:, 1] + 0.32, 0), z + ring[:, 0]])
    return shape


@lru_cache(maxsize=256)
def _model(
    kind: CarKind, shows_rear: bool, end_visible: bool, roof_visible: bool, far: bool
) -> tuple[Polygons, np.ndarray]:
    """Faces in local coordinates, and the share of the paint, float (P, 1), to add to their colours."""
    shape = _shape(kind, shows_rear)
    parts: list[tuple[str, list[int] | None, Colour | None, float]]
    parts = [("under", None, _RUBBER, 1.0), ("tyre0", None, _RUBBER, 1.0), ("tyre1", None, _RUBBER, 1.0)]
    parts += [("lower", _SIDE, None, 0.72), ("upper", _TOP, None, 1.12), ("upper", _SIDE, None, 0.86)]
    for index in "01":
        parts += [] if far else [("arch" + index, None, None, 0.45)]
        parts += [("wheel" + index, None, _RUBBER, 1.0)]
        parts += [] if far else [("hub" + index, None, (125, 125, 128), 1.0)]
    parts += [("cabin", _SIDE, None, 0.78), ("glass0", None, _GLASS, 0.85), ("glass1", None, _GLASS, 0.95)]
    parts += [("cabin", _TOP, None, 1.18)] if roof_visible else []
    if end_visible:
        parts += [("cabin", _END, None, 0.9), ("window", None, _GLASS, 1.0 if shows_rear else 1.5)]
        parts += [("lower", _END, None, 0.78), ("upper", _END, None, 0.97)]
        lamp = _RED if shows_rear else _WHITE
        parts += [("lamp0", None, lamp, 1.0), ("lamp1", None, lamp, 1.0), ("bumper", None, (38, 38, 40), 1.0)]
        if not far:
            plate: Colour = (60, 190, 215) if shows_rear else (220, 220, 220)
            parts += [("plate", None, plate, 1.0), ("grille", None, None if shows_rear else (30, 30, 32), 0.8)]
    faces = []
    for name, ids, colour, shade in parts:
        corners = shape[name] if ids is None else shape[name][ids]
        faces.append((corners, _UNPAINTED if colour is None else dim(colour, shade)))
    paint = [(shade if colour is None else 0.0,) for _, _, colour, shade in parts]
    return pack(faces, CAR), np.array(paint)


def draw_car(
    p: Painter, kind: CarKind, paint: Colour, at: tuple[float, float], shows_rear: bool, across: int = 0
) -> None:
    """A vehicle whose nearest end's middle is at (u, s); `across` = side when it stands in a side street."""
    u, s = at
    ahead = s - p.camera.s
    if ahead + (0 if across else kind.length) < NEAR + 0.2:
        return
    # `far` is in pixels per metre: smaller details are below a pixel or two and are left out.
    far = p.camera.focal / max(ahead, NEAR) < 20.0
    model, share = _model(kind, shows_rear, bool(across) or ahead > NEAR, p.camera.y > kind.height, far)
    local = model.points
    points = local.copy()
    if across:
        points[:, 0], points[:, 2] = u + across * local[:, 2], s + local[:, 0] + kind.width / 2
    else:
        points[:, 0] = u - local[:, 0] if p.camera.u > u else u + local[:, 0]
        points[:, 2] += s
    p.body(Polygons(points, model.ends, model.colours + share * (*paint, 0.0)), ahead)
