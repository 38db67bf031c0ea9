"""Things that stand on the street for good: houses, fences, posts, signs. Each function draws one of them."""

from dataclasses import dataclass

import numpy as np

from rtseg.vision.scenes.painter import NEAR, Face, Painter
from rtseg.vision.scenes.style import BUILDING, POLE, SIGN, Colour
from rtseg.vision.scenes.textures import Facade

CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Corners of a rectangle, float (4, 2)."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def dim(colour: Colour, factor: float) -> Colour:
    """`colour` times `factor`."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def draw_textured_wall(p: Painter, levels: tuple[np.ndarray, ...], u: float, s: tuple[float, float], y1: float) -> None:
    """Map a texture onto a wall along the road from s[0] to s[1], 0 to `y1` high, cut where it passes the camera."""
    near = max(s[0], p.camera.s + NEAR)
    if s[1] - near < 0.2:
        return
    detail = p.camera.focal / (near - p.camera.s + 0.35 * (s[1] - near))
    level = int(np.log2(max(levels[0].shape[0] / y1 / detail, 1.0)) + 0.5)
    image = levels[min(level, len(levels) - 1)]
    cut = int((near - s[0]) / (s[1] - s[0]) * image.shape[1])
    image = image[:, min(cut, image.shape[1] - 2) :]
    corners = p.camera.project(np.array([(u, y1, near), (u, y1, s[1]), (u, 0, s[1]), (u, 0, near)]))
    blue, green, red, label = (float(v) for v in image[image.shape[0] // 2, -1])
    p.fill(corners, (blue, green, red, int(label)))
    p.texture(corners, image)


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
    points = np.array(
        [
            (u, 0, near), (back, 0, near), (back, height, near), (u, height, near),
            (middle, ridge, near), (middle, ridge, s[1]), (u, height, s[1]),
        ]
    )  # fmt: skip
    faces: list[Face] = []
    if facade.roof_height:
        faces.append(([3, 4, 5, 6], facade.roof, 1.0 if lit else 0.75))
    if ahead > NEAR:
        faces.append(([0, 1, 2, 3], facade.wall, 0.72))
        if facade.roof_height:
            faces.append(([3, 2, 4], facade.wall, 0.7))
    p.faces(points, faces, BUILDING, max(ahead, 0))
    draw_textured_wall(p, facade.levels[int(lit)], u, s, height)
    if facade.roof_height and 4 < ahead < 100:
        _draw_chimney(p, facade, side, (middle, ridge), s[0] + 0.6)


def _draw_chimney(p: Painter, facade: Facade, side: int, ridge: tuple[float, float], s: float) -> None:
    u, y0, y1 = ridge[0], ridge[1] - 0.4, ridge[1] + 1.1
    inner = u - side * 0.5  # the side towards the road
    corners = [(u - 0.5, s), (u + 0.5, s), (inner, s), (inner, s + 0.9)]
    points = np.array([(x, y, z) for y in (y0, y1) for x, z in corners])
    faces: list[Face] = [([2, 3, 7, 6], facade.wall, 0.85), ([0, 1, 5, 4], facade.wall, 0.62)]
    p.faces(points, faces, BUILDING, s - p.camera.s)


def draw_pole(
    p: Painter, at: tuple[float, float], height: float, radius: float, colour: Colour, arm: float = 0.0
) -> None:
    """A post at (u, s); `arm` metres of bracket to the side carry a lamp."""
    u, s = at
    if p.style.mirrored:
        arm = -arm
    post = np.array([(-radius, 0), (radius, 0), (radius * 0.7, height), (-radius * 0.7, height)])
    parts = [(post, colour), (box(radius * 0.2, 0, radius * 0.7, height), dim(colour, 1.35))]
    if arm:
        low, high = sorted((0.0, arm))
        parts.append((box(low, height - 0.12, high, height + 0.02), colour))
        parts.append((box(arm - 0.32, height - 0.16, arm + 0.32, height + 0.03), dim(colour, 1.2)))
        parts.append((box(arm - 0.26, height - 0.2, arm + 0.26, height - 0.14), (200, 215, 220)))
    p.flat((u, 0.0, s), parts, POLE)


@dataclass(frozen=True)
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
    p.flat((u, 0.0, s), [(box(-0.05, 0, 0.05, height), (120, 120, 118))], POLE)
    parts = [(kind.outline * kind.size, kind.rim), (kind.outline * kind.size * 0.76, kind.face)]
    if p.camera.focal / max(s - p.camera.s, NEAR) < 25.0:
        p.flat((u, height, s), parts, SIGN)
        return
    mark = dim(kind.rim, 0.3) if sum(kind.face) > 450 else (232.0, 234.0, 235.0)
    wide = 0.42 * kind.size * float(kind.outline[:, 0].max())
    parts += [(box(-wide, y - 0.07 * kind.size, wide, y + 0.07 * kind.size), mark) for y in (-0.04, 0.08)]
    p.flat((u, height, s), parts, SIGN)


def draw_traffic_light(p: Painter, at: tuple[float, float], phase: float) -> None:
    """A signal head on a post; `phase` 0..1 chooses what is lit."""
    u, s = at
    p.flat((u, 0.0, s), [(box(-0.07, 0, 0.07, 3.4), (70, 72, 72))], POLE)
    lit = 0 if phase < 0.45 else 1 if phase < 0.5 else 2
    parts = [(box(-0.24, -0.55, 0.24, 0.6), (28.0, 28.0, 28.0))]
    for index, colour in enumerate(((50, 50, 240), (40, 170, 250), (120, 220, 60))):
        parts.append((CIRCLE * 0.12 + (0, 0.36 - 0.35 * index), dim(colour, 1.0 if index == lit else 0.25)))
    p.flat((u, 3.0, s), parts, SIGN)


def draw_board(p: Painter, side: int, line: float, s: float, y: float, colour: Colour) -> None:
    """A shop's sign that stands out from the wall towards the road."""
    rim: Colour = (255 - colour[0] * 0.6, 255 - colour[1] * 0.6, 255 - colour[2] * 0.6)
    parts = [(box(-0.5, -0.42, 0.5, 0.42), rim), (box(-0.43, -0.35, 0.43, 0.35), colour)]
    parts.append((box(-0.3, -0.08, 0.3, 0.1), (225, 228, 230)))
    p.flat((side * (line - 0.55), y, s), parts, SIGN)
