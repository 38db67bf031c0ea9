"""The camera and the canvas: world coordinates in, colour and label of each pixel out.

World coordinates in metres: u to the right of the camera's lane centre, y up from the road, s along the road.
The canvas is uint8 (H, W, 4): blue, green, red and the label, so that one drawing call sets both.
"""

from dataclasses import dataclass
from math import exp

import cv2
import numpy as np

from rtseg.vision.scenes.style import TREE, Colour, Style

NEAR = 1.0  # metres; nothing is drawn nearer, which is far outside the view of any ground point
_STEP = 1.0
_AHEAD = np.arange(-64.0, 240.0, _STEP)  # metres; where the road's bend is tabulated for a frame
SHIFT = 4  # fractional bits of polygon vertices
_LIMIT = 12000.0  # pixels; keeps shifted vertices inside OpenCV's integers


class Camera:
    """A pinhole camera on a curved road; `mirrored` swaps left and right for driving on the right."""

    def __init__(self, size_hw: tuple[int, int], style: Style, seed: int) -> None:
        self.height, self.width = size_hw
        self.style = style
        self.focal = style.focal * max(self.width, self.height * 4 / 3)
        rng = np.random.default_rng((seed, 2))
        self._phase = rng.uniform(0, 2 * np.pi, 6)
        self._waves = ((rng.uniform(38, 60), 0.6), (rng.uniform(80, 130), 0.8))
        self.place(0.0)

    def place(self, t: float) -> None:
        """Move to where the car is after `t` seconds."""
        style, p = self.style, self._phase
        self.s = 500.0 + style.speed * t + 1.5 * np.sin(0.31 * t + p[0])
        self.u = style.camera_u + 0.16 * style.sway * np.sin(0.7 * t + p[1])
        self.y = style.camera_height + 0.012 * style.sway * np.sin(7.3 * t + p[2])
        self.yaw = 0.012 * style.sway * np.sin(0.43 * t + p[3])
        pitch = 0.0022 * style.sway * (np.sin(5.1 * t + p[4]) + np.sin(2.3 * t + p[5]))
        self.horizon = style.horizon * self.height + pitch * self.focal
        offset, slope = self._curve(np.array(self.s))
        self._slope = float(slope)
        # Lateral shift of the road's centre against the view's axis, for each of _AHEAD
        self._bend = self._curve(self.s + _AHEAD)[0] - offset - (self._slope + self.yaw) * _AHEAD - self.u

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
        """float (N, 3) of (u, y, s) -> float (N, 2) of pixel x, y; points nearer than NEAR are moved there."""
        ahead = points[:, 2] - self.s
        scale = self.focal / np.maximum(ahead, NEAR)
        pixels = np.empty((len(points), 2))
        side = -1.0 if self.style.mirrored else 1.0
        pixels[:, 0] = (points[:, 0] + np.interp(ahead, _AHEAD, self._bend)) * scale * side + self.width / 2
        pixels[:, 1] = (self.y - points[:, 1]) * scale + self.horizon
        return pixels

    def anchor(self, u: float, y: float, s: float) -> tuple[float, float, float]:
        """Pixel x, y of one point and the pixels a metre there."""
        ahead = s - self.s
        scale = self.focal / max(ahead, NEAR)
        at = min(max((ahead - _AHEAD[0]) / _STEP, 0.0), len(_AHEAD) - 1.001)
        low = int(at)
        bend = self._bend[low] + (self._bend[low + 1] - self._bend[low]) * (at - low)
        side = -1.0 if self.style.mirrored else 1.0
        return self.width / 2 + side * (u + float(bend)) * scale, self.horizon + (self.y - y) * scale, scale

    def row(self, distance: float) -> float:
        """Pixel row of the road's surface at `distance` metres."""
        return float(self.horizon + self.y * self.focal / distance)


Value = tuple[float, float, float, int]  # blue, green, red, label
Face = tuple[list[int] | slice, Colour, float]  # vertices, colour, shade
Part = tuple[np.ndarray, Colour]


@dataclass(frozen=True)
class Sprite:
    """A flat picture that stands in the world: `levels` of uint8 (h, w, 4), halving; label 0 is see-through."""

    levels: tuple[np.ndarray, ...]
    aspect: float


def fixed(pixels: np.ndarray) -> np.ndarray:
    """Pixels, float (N, 2), as OpenCV's fixed-point vertices."""
    limited = np.minimum(np.maximum(pixels, -_LIMIT), _LIMIT)
    vertices: np.ndarray = (limited * (1 << SHIFT)).astype(np.int32)
    return vertices


class Painter:
    """Draws world polygons, textures and sprites on a BGR+label canvas; the caller orders them far to near."""

    def __init__(self, camera: Camera, style: Style) -> None:
        self.camera = camera
        self.style = style
        self.canvas = np.zeros((camera.height, camera.width, 4), np.uint8)

    def tint(self, colour: Colour, label: int, distance: float, shade: float = 1.0) -> Value:
        """The pixel value for `colour` under this light, seen through `distance` metres of air."""
        clear = exp(-distance / self.style.haze) if distance > 0 else 1.0
        keep, haze = clear * shade, 1.0 - clear
        (b, g, r), (hb, hg, hr), (gb, gg, gr) = colour, self.style.light.haze_bgr, self.style.light.gain_bgr
        return (b * gb * keep + hb * haze, g * gg * keep + hg * haze, r * gr * keep + hr * haze, label)

    def fill(self, pixels: np.ndarray, value: Value) -> None:
        """Fill the convex polygon `pixels`, float (N, 2)."""
        cv2.fillConvexPoly(self.canvas, fixed(pixels), value, cv2.LINE_8, SHIFT)

    def faces(self, points: np.ndarray, faces: list[Face], label: int, distance: float) -> None:
        """Draw faces (vertex ids, colour, shade) of one body with vertices `points`, float (N, 3)."""
        pixels = self.camera.project(points)
        if pixels[:, 0].max() < 0 or pixels[:, 0].min() > self.camera.width:
            return
        pixels = fixed(pixels)
        for ids, colour, shade in faces:
            value = self.tint(colour, label, distance, shade)
            cv2.fillConvexPoly(self.canvas, pixels[ids], value, cv2.LINE_8, SHIFT)

    def flat(self, at: tuple[float, float, float], parts: list[Part], label: int, size: float = 1.0) -> None:
        """Draw flat parts (convex outline in metres, colour) that face the camera around the point (u, y, s)."""
        distance = at[2] - self.camera.s
        if distance < NEAR:
            return
        x, y, scale = self.camera.anchor(*at)
        if not -2.0 * scale < x < self.camera.width + 2.0 * scale:
            return
        outlines = np.concatenate([outline for outline, _ in parts]) * (scale * size, -scale * size)
        pixels = fixed(np.add(outlines, (x, y)))
        first = 0
        for outline, colour in parts:
            last = first + len(outline)
            value = self.tint(colour, label, distance)
            cv2.fillConvexPoly(self.canvas, pixels[first:last], value, cv2.LINE_8, SHIFT)
            first = last

    def strip(self, left: np.ndarray, right: np.ndarray, value: Value) -> None:
        """Fill the ground between two lines, float (N, 3) each."""
        pixels = fixed(self.camera.project(np.concatenate([left, right[::-1]])))
        cv2.fillPoly(self.canvas, [pixels], value, cv2.LINE_8, SHIFT)

    def texture(self, corners: np.ndarray, image: np.ndarray) -> None:
        """Map `image`, uint8 (h, w, 4), onto the quad `corners`: pixels of its top left, top right, ... corner."""
        height, width = image.shape[:2]
        low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(0)) + 1, (self.camera.width, self.camera.height)).astype(int)
        if (high - low).min() < 1 or abs(corners[0, 0] - corners[1, 0]) < 2:
            return
        source = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float32)
        matrix = cv2.getPerspectiveTransform(source, (corners - low).astype(np.float32))
        part = self.canvas[low[1] : high[1], low[0] : high[0]]
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        cv2.warpPerspective(image, matrix, size, dst=part, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)

    def sprite(self, sprite: Sprite, foot: tuple[float, float, float], height: float) -> None:
        """Stand `sprite`, `height` metres tall, on the point `foot` = (u, y, s)."""
        if foot[2] - self.camera.s < NEAR:
            return
        x, y, scale = self.camera.anchor(*foot)
        tall, wide = height * scale, height * scale * sprite.aspect
        level = 0
        while level + 1 < len(sprite.levels) and sprite.levels[level + 1].shape[0] >= tall:
            level += 1
        image = sprite.levels[level]
        columns, (low_x, wide_px), (from_x, to_x) = _cut(x - wide / 2, wide, image.shape[1], self.camera.width)
        rows, (low_y, tall_px), (from_y, to_y) = _cut(y - tall, tall, image.shape[0], self.camera.height)
        if to_x <= from_x or to_y <= from_y:
            return
        placed = cv2.resize(image[rows, columns], (wide_px, tall_px), interpolation=cv2.INTER_NEAREST)
        placed = placed[from_y - low_y : to_y - low_y, from_x - low_x : to_x - low_x]
        cv2.copyTo(placed, cv2.extractChannel(placed, 3), self.canvas[from_y:to_y, from_x:to_x])


def _cut(start: float, length: float, texels: int, limit: int) -> tuple[slice, tuple[int, int], tuple[int, int]]:
    """Along one axis: which texels of a picture at `start` are seen, where they go, and that cut to the canvas.

    Returns the texels' slice, (first pixel, pixels) of those texels, (first, last) pixel inside 0..limit.
    """
    step = length / texels
    first = min(max(int(-start / step), 0), texels - 1)
    last = max(min(int((limit - start) / step) + 1, texels), first + 1)
    low, high = round(start + first * step), max(round(start + last * step), round(start + first * step) + 1)
    return slice(first, last), (low, high - low), (max(low, 0), min(high, limit))


def label_image(image_bgr: np.ndarray, label: int = TREE) -> np.ndarray:
    """uint8 (h, w, 3) -> (h, w, 4) with `label` in the last channel."""
    return np.dstack([image_bgr, np.full(image_bgr.shape[:2], label, np.uint8)])
