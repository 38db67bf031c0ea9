"""The camera and the canvas: from world coordinates to the colour and label of each pixel.

World coordinates in metres: u to the right of the camera's lane centre, y up from the road, s along the road.
The canvas is uint8 (H, W, 4): blue, green, red and the label, so that one drawing call sets both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, sin
from typing import NamedTuple

import cv2
import numpy as np

from rtseg.scenes._raster import draw_upright, fill_polygons, project
from rtseg.scenes.style import TREE, Colour, Style

NEAR = 1.0  # metres; nothing nearer is drawn, which is far outside the view of any ground point
_BEHIND = 64.0  # metres
_AHEAD = np.arange(-_BEHIND, 240.0)  # metres at which the road's bend is tabulated for a frame


class Camera:
    """A pinhole camera on a curved road; `mirrored` swaps left and right for driving on the right."""

    def __init__(self, size_hw: tuple[int, int], style: Style, seed: int) -> None:
        self.height, self.width = size_hw
        self.style = style
        self.focal = style.focal * max(self.width, self.height * 4 / 3)
        rng = np.random.default_rng((seed, 2))
        self._phase = rng.uniform(0, 2 * np.pi, 6).tolist()
        self._waves = ((rng.uniform(38, 60), 0.6), (rng.uniform(80, 130), 0.8))
        self.place(0.0)

    def place(self, t: float) -> None:
        """Moves to the car's position after `t` seconds."""
        style, p = self.style, self._phase
        self.s = 500.0 + style.speed * t + 1.5 * sin(0.31 * t + p[0])
        self.u = style.camera_u + 0.16 * style.sway * sin(0.7 * t + p[1])
        self.y = style.camera_height + 0.012 * style.sway * sin(7.3 * t + p[2])
        self.yaw = 0.012 * style.sway * sin(0.43 * t + p[3])
        pitch = 0.0022 * style.sway * (sin(5.1 * t + p[4]) + sin(2.3 * t + p[5]))
        self.horizon = style.horizon * self.height + pitch * self.focal
        offset, slope = self._curve(np.array(self.s))
        self._slope = float(slope)
        # lateral shift of the road's centre from the view's axis, at each of _AHEAD
        self._bend = self._curve(self.s + _AHEAD)[0] - offset - (self._slope + self.yaw) * _AHEAD - self.u
        self._bends = self._bend.tolist()

    def _curve(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lateral offset of the road's centre at `s` and its slope."""
        offset = slope = np.zeros_like(s)
        for (length, share), phase in zip(self._waves, self._phase, strict=False):
            size = self.style.curvature * share * length**2
            offset = offset + size * np.sin(s / length + phase)
            slope = slope + size / length * np.cos(s / length + phase)
        return offset, slope

    @property
    def heading(self) -> float:
        """Angle of the view against the world, radians; moves the sky and the skyline."""
        return float(np.arctan(self._slope) + self.yaw)

    def project(self, points: np.ndarray) -> np.ndarray:
        """float (N, 3) of (u, y, s) -> float (N, 2) of pixel x, y; points nearer than NEAR are moved to it."""
        focal = -self.focal if self.style.mirrored else self.focal
        return project(points, self._bend, _BEHIND, self.s, self.y, focal, self.width / 2, self.horizon, NEAR)  # type: ignore[no-any-return]

    def anchor(self, u: float, y: float, s: float) -> tuple[float, float, float]:
        """Pixel x, y of a point, and the pixels per metre there."""
        ahead = s - self.s
        scale = self.focal / max(ahead, NEAR)
        at = min(max(ahead + _BEHIND, 0.0), len(self._bends) - 1.001)
        low = int(at)
        bend = self._bends[low] + (self._bends[low + 1] - self._bends[low]) * (at - low)
        side = -scale if self.style.mirrored else scale
        return self.width / 2 + side * (u + bend), self.horizon + (self.y - y) * scale, scale

    def row(self, distance: float) -> float:
        """Pixel row of the road's surface at `distance` metres."""
        return float(self.horizon + self.y * self.focal / distance)


IN_PIXELS = (1.0, 1.0, 0.0, 0.0)  # the `place` of polygons whose points are pixels
Light = tuple[float, float, float]
Part = tuple[np.ndarray, Colour]  # outline, colour


class Polygons(NamedTuple):
    """Filled outlines in drawing order: `points` float (N, 2 or 3) up to ends[k] are the k-th.

    `colours` is float (P, 4): blue, green, red and the label.
    """

    points: np.ndarray
    ends: np.ndarray
    colours: np.ndarray


def pack(parts: Sequence[Part], label: int) -> Polygons:
    """Outlines with their colours, all of class `label`."""
    ends = np.fromiter(accumulate(len(outline) for outline, _ in parts), np.int64)
    colours = np.array([(*colour, label) for _, colour in parts], np.float64)
    return Polygons(np.concatenate([outline for outline, _ in parts]), ends, colours)


def join(parts: Sequence[Polygons]) -> Polygons:
    """All of `parts`, one after the other."""
    points, ends, colours = zip(*parts, strict=True)
    starts = np.cumsum([0, *(len(p) for p in points[:-1])])
    moved = [end + start for end, start in zip(ends, starts, strict=True)]
    return Polygons(np.concatenate(points), np.concatenate(moved), np.concatenate(colours))


@dataclass(frozen=True)
class Sprite:
    """A flat picture that stands in the world: `levels` of uint32 (h, w), each half as large; label 0 is
    transparent."""

    levels: tuple[np.ndarray, ...]
    aspect: float


class Painter:
    """Draws world polygons, textures and sprites on a BGR+label canvas; the caller orders them far to near."""

    def __init__(self, camera: Camera, style: Style) -> None:
        self.camera = camera
        self.style = style
        self.canvas = np.zeros((camera.height, camera.width, 4), np.uint8)
        self.pixels = texels(self.canvas)

    def air(self, distance: float) -> tuple[Light, Light]:
        """(first, second): in this light, through `distance` metres of air, a colour becomes colour * first +
        second."""
        keep = exp(-distance / self.style.haze) if distance > 0 else 1.0
        haze = 1.0 - keep
        (gb, gg, gr), (hb, hg, hr) = self.style.light.gain_bgr, self.style.light.haze_bgr
        return (gb * keep, gg * keep, gr * keep), (hb * haze, hg * haze, hr * haze)

    def body(self, polygons: Polygons, distance: float) -> None:
        """Draws polygons whose points are (u, y, s)."""
        pixels = self.camera.project(polygons.points)
        if pixels[:, 0].max() < 0 or pixels[:, 0].min() > self.camera.width:
            return
        fill_polygons(self.pixels, pixels, polygons.ends, polygons.colours, *self.air(distance), IN_PIXELS)

    def flat(self, at: tuple[float, float, float], polygons: Polygons, size: float = 1.0) -> None:
        """Draws camera-facing polygons in metres around the point (u, y, s)."""
        distance = at[2] - self.camera.s
        if distance < NEAR:
            return
        x, y, scale = self.camera.anchor(*at)
        if not -2.0 * scale < x < self.camera.width + 2.0 * scale:
            return
        place = (scale * size, -scale * size, x, y)
        fill_polygons(self.pixels, polygons.points, polygons.ends, polygons.colours, *self.air(distance), place)

    def wall(self, image: np.ndarray, u: float, s: tuple[float, float], height: float, start: float) -> None:
        """Stands `image`, uint32 (h, w), from texel column `start` on, along the road from s[0] to s[1]."""
        ends = []
        for at in s:
            x, y, scale = self.camera.anchor(u, 0.0, at)
            ends.append((x, y - height * scale, y, scale))
        draw_upright(self.pixels, image, ends[0], ends[1], start, 1.0)

    def sprite(self, sprite: Sprite, foot: tuple[float, float, float], height: float) -> None:
        """Stands `sprite`, `height` metres tall, on the point `foot` = (u, y, s)."""
        if foot[2] - self.camera.s < NEAR:
            return
        x, y, scale = self.camera.anchor(*foot)
        tall, half = height * scale, height * scale * sprite.aspect / 2
        level = 0
        while level + 1 < len(sprite.levels) and sprite.levels[level + 1].shape[0] >= tall:
            level += 1
        ends = (x - half, y - tall, y, 1.0), (x + half, y - tall, y, 1.0)
        draw_upright(self.pixels, sprite.levels[level], *ends, 0.0, 0.0)


def texels(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 4) -> uint32 (h, w): blue, green, red and label from the lowest byte up."""
    packed: np.ndarray = np.ascontiguousarray(image).view("<u4")[..., 0]
    return packed


def label_image(image_bgr: np.ndarray, label: int = TREE) -> np.ndarray:
    """uint8 (h, w, 3) -> (h, w, 4) with `label` in the last channel."""
    return cv2.merge([image_bgr, np.full(image_bgr.shape[:2], label, np.uint8)])
