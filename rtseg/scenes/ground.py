"""The ground: road, markings, pavements, verges, their grain and the shadows on them."""

import numpy as np

from rtseg.scenes._raster import fill_polygons, finish_ground
from rtseg.scenes.bodies import dim
from rtseg.scenes.painter import IN_PIXELS, Painter, Part, Polygons, join, pack
from rtseg.scenes.style import PAVEMENT, ROAD, TREE, Colour, Style
from rtseg.scenes.textures import make_asphalt
from rtseg.scenes.world import Block, Mark

FAR = 170.0  # metres; distance of the skyline
_WIDE = 1000.0  # metres to either side, beyond any view
_GRAIN = 24.0  # minimum distance of the ground's colours from black and white, so that grain cannot overflow
_GRAIN_END = 30.0  # metres, at which grain has faded out
_WHITE: Colour = (205.0, 208.0, 210.0)
_YELLOW: Colour = (70.0, 175.0, 205.0)
_AS_GIVEN = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


class Ground:
    """Draws everything flat; the grain moves with the road."""

    def __init__(self, rng: np.random.Generator, style: Style, size_hw: tuple[int, int]) -> None:
        self.style = style
        self._shade = np.zeros(size_hw, np.uint32)
        # Shadows are lit by the sky: a little bluer.
        self._dark = np.array([1.06, 1.0, 0.96]) * style.light.shadow
        self._grain = make_asphalt(rng, 512)
        self._below, self._above = self._strips()

    def _strips(self) -> tuple[Polygons, Polygons]:
        """The strips along the whole road, below and above the marks; s counts from the camera."""
        style = self.style
        beside, label = (style.grass, TREE) if style.verge else (style.paving, PAVEMENT)
        edges = ((-1, style.road_left), (1, style.road_right))
        pavements = [_strip(side * edge, side * (edge + style.pavement), style.paving) for side, edge in edges]
        road = [_strip(-style.road_left, style.road_right, style.asphalt)]
        if style.kerb_lines:
            for line in (-style.road_left + 0.25, style.road_right - 0.25):
                road.append(_strip(line - 0.05, line + 0.05, _YELLOW))
        kerbs = [_strip(side * edge, side * (edge + 0.15), dim(style.paving, 1.15)) for side, edge in edges]
        verges = pack([_strip(-_WIDE, _WIDE, dim(beside, 0.88))], label)
        return join([verges, pack(pavements, PAVEMENT), pack(road, ROAD)]), pack(kerbs, PAVEMENT)

    def draw(self, p: Painter, blocks: list[Block], shadows: list[np.ndarray]) -> None:
        """Fills everything below the horizon; `shadows` are ground polygons, float (N, 3) each."""
        here = (0.0, 0.0, p.camera.s)
        below, above = (Polygons(part.points + here, part.ends, part.colours) for part in (self._below, self._above))
        points, ends, colours = join([below, self._marks(p.camera.s, blocks), above])
        gain, haze = p.air(8.0)
        colours[:, :3] = np.clip(colours[:, :3] * gain + haze, _GRAIN, 255.0 - _GRAIN)
        fill_polygons(p.pixels, p.camera.project(points), ends, colours, *_AS_GIVEN, IN_PIXELS)
        self._finish(p, shadows)

    def _marks(self, s: float, blocks: list[Block]) -> Polygons:
        """The marks on the ground near the camera at `s`."""
        lane, period, dash = self.style.road_right - self.style.road_left, 6.0, 2.6
        marks = [m for block in blocks for m in block.marks if s + 1.0 - m.s[1] < 0 < s + m.reach - m.s[0]]
        first = s // period * period
        u = (lane / 2 - 0.07, lane / 2 + 0.07)
        marks += [Mark(u, (at, at + dash), _WHITE, ROAD) for at in (first + k * period for k in range(12))]
        sides = np.array([(*m.u, *m.s) for m in marks])
        points = np.zeros((4 * len(marks), 3))
        points[:, 0] = sides[:, [0, 1, 1, 0]].ravel()
        points[:, 2] = np.maximum(sides[:, [2, 2, 3, 3]].ravel(), s + 1.0)
        ends = np.arange(4, len(points) + 1, 4, dtype=np.int64)
        return Polygons(points, ends, np.array([(*m.colour, m.label) for m in marks]))

    def _finish(self, p: Painter, shadows: list[np.ndarray]) -> None:
        """Adds shadows, and grain that moves with the road as if the road were straight."""
        camera = p.camera
        top = int(np.clip(np.floor(camera.row(FAR)), 0, camera.height - 1))
        shade = self._shade[top:]
        shade[:] = 0
        if shadows:
            points = camera.project(np.concatenate(shadows))
            ends = np.cumsum([len(polygon) for polygon in shadows], dtype=np.int64)
            fill_polygons(shade, points, ends, np.ones((len(shadows), 4)), *_AS_GIVEN, (1.0, 1.0, 0.0, -float(top)))
        ahead = camera.y * camera.focal / np.maximum(np.arange(top, camera.height) - camera.horizon, 1e-3)
        scale = np.where(ahead < 8.0, 48.0, 16.0)  # texels per metre
        step = ahead / camera.focal * scale * (-1 if self.style.mirrored else 1)
        u = camera.u * scale - step * camera.width / 2
        fade = np.clip(2.0 - 2.0 * ahead / _GRAIN_END, 0.0, 1.0)
        finish_ground(p.pixels[top:], shade, self._grain, (camera.s + ahead) * scale, u, step, fade, self._dark)


def _strip(u0: float, u1: float, colour: Colour) -> Part:
    """The ground between two lines along the road, for s from 1 to FAR."""
    s = np.geomspace(1.0, FAR, 26)
    sides = [np.column_stack([np.full_like(s, u), np.zeros_like(s), s]) for u in (u0, u1)]
    return np.concatenate([sides[0], sides[1][::-1]]), colour
