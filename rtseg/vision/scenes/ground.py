"""The ground: road, markings, pavements, verges, their grain and the shadows on them."""

import cv2
import numpy as np

from rtseg.vision.scenes.painter import SHIFT, Camera, Painter, Value, fixed
from rtseg.vision.scenes.style import PAVEMENT, ROAD, TREE, Colour, Style
from rtseg.vision.scenes.textures import make_asphalt
from rtseg.vision.scenes.world import Block, Mark

FAR = 170.0  # metres; the skyline stands there
_MEAN = np.array([16, 16, 16, 0], np.uint8)
_GRAIN = 16.0  # mean of the grain picture, taken off the ground's colours beforehand


class Ground:
    """Draws everything flat; the grain moves with the road."""

    def __init__(self, rng: np.random.Generator, style: Style, size_hw: tuple[int, int]) -> None:
        self.style = style
        self._mask = np.zeros(size_hw, np.uint8)
        self._spare = np.zeros((*size_hw, 4), np.uint8)
        # Shadows are lit by the sky: a little bluer. The label, last, stays.
        factors = np.array([1.06, 1.0, 0.96]) * style.light.shadow
        levels = np.arange(256)
        self._dark = np.column_stack([*(levels * f for f in factors), levels]).astype(np.uint8).reshape(1, 256, 4)
        self._distances = np.geomspace(1.0, FAR, 26)
        # (nearest, farthest, half width, pixels a metre, period in metres) of each piece of grain
        self._bands = ((1.2, 8.0, 9.0, 48, 8), (8.0, 30.0, 30.0, 16, 16))
        self._grain = [
            make_asphalt(rng, (int((far - near + period) * scale), int(2 * half * scale)), int(period * scale))
            for near, far, half, scale, period in self._bands
        ]

    def draw(self, p: Painter, blocks: list[Block], shadows: list[np.ndarray]) -> None:
        """Fill everything below the horizon."""
        style, camera = self.style, p.camera
        top = int(np.clip(np.floor(camera.row(FAR)), 0, camera.height - 1))
        ground, label = (style.grass, TREE) if style.verge else (style.paving, PAVEMENT)
        cv2.rectangle(
            p.canvas, (0, top), (camera.width, camera.height), self._value(p, ground, label, 0.88), cv2.FILLED
        )
        s = camera.s + self._distances
        for side, edge in ((-1, style.road_left), (1, style.road_right)):
            self._strip(p, s, side * edge, side * (edge + style.pavement), self._value(p, style.paving, PAVEMENT))
        self._strip(p, s, -style.road_left, style.road_right, self._value(p, style.asphalt, ROAD))
        self._marks(p, blocks, s)
        for side, edge in ((-1, style.road_left), (1, style.road_right)):
            kerb = (style.paving[0] * 1.15, style.paving[1] * 1.15, style.paving[2] * 1.15)
            self._strip(p, s, side * edge, side * (edge + 0.15), self._value(p, kerb, PAVEMENT))
        self._add_grain(p, top)
        self._add_shadows(p, shadows, top)

    def _value(self, p: Painter, colour: Colour, label: int, shade: float = 1.0) -> Value:
        b, g, r, label = p.tint(colour, label, 8.0, shade)
        return (max(b - _GRAIN, 0), max(g - _GRAIN, 0), max(r - _GRAIN, 0), label)

    @staticmethod
    def _strip(p: Painter, s: np.ndarray, u0: float, u1: float, value: Value) -> None:
        zero = np.zeros_like(s)
        p.strip(np.column_stack([zero + u0, zero, s]), np.column_stack([zero + u1, zero, s]), value)

    def _marks(self, p: Painter, blocks: list[Block], s: np.ndarray) -> None:
        style, camera = self.style, p.camera
        white, yellow = (205.0, 208.0, 210.0), (70.0, 175.0, 205.0)
        lane = style.road_right - style.road_left
        marks = [
            m for block in blocks for m in block.marks if camera.s + 1.0 - m.s[1] < 0 < camera.s + m.reach - m.s[0]
        ]
        period, dash = 6.0, 2.6
        first = float(np.floor(camera.s / period)) * period
        u = (lane / 2 - 0.07, lane / 2 + 0.07)
        dashes = (first + k * period for k in range(12))
        marks += [Mark(u, (s0, s0 + dash), white, ROAD) for s0 in dashes if s0 + dash > camera.s + 1.0]
        if style.kerb_lines:
            for line in (-style.road_left + 0.25, style.road_right - 0.25):
                self._strip(p, s, line - 0.05, line + 0.05, self._value(p, yellow, ROAD))
        near = camera.s + 1.0
        corners = np.array(
            [(u, 0.0, max(v, near)) for m in marks for v in m.s for u in (m.u if v == m.s[0] else m.u[::-1])]
        )
        quads = fixed(camera.project(corners)).reshape(-1, 4, 2)
        for quad, mark in zip(quads, marks, strict=True):
            cv2.fillConvexPoly(p.canvas, quad, self._value(p, mark.colour, mark.label), cv2.LINE_8, SHIFT)

    def _add_grain(self, p: Painter, top: int) -> None:
        """Add the moving grain, mean `_GRAIN`, to all ground rows; the far ones get the mean alone."""
        camera = p.camera
        rows = [min(int(camera.row(near)), camera.height) for near, *_ in self._bands]
        rows = [*rows, min(max(int(camera.row(self._bands[-1][1])), top), camera.height)]
        far = p.canvas[top : rows[-1]]
        np.add(far, _MEAN, out=far)
        for index, (near, far_at, half, scale, period) in enumerate(self._bands):
            low, high = rows[index + 1], rows[index]
            if high - low < 1:
                continue
            shift = camera.s % period
            u = np.array([-half, half, half, -half])
            ahead = np.array([far_at, far_at, near, near])
            ground = np.column_stack([u * 0.98 + camera.u, np.zeros(4), camera.s + ahead])
            pixels = self._straight(camera, ground) - (0, low)
            height, width = self._grain[index].shape[:2]
            v = height - 1 - (ahead - near + shift) * scale
            source = np.column_stack([(u + half) * scale * (width - 1) / width, v])
            matrix = cv2.getPerspectiveTransform(source.astype(np.float32), pixels.astype(np.float32))
            part = p.canvas[low:high]
            grain = cv2.warpPerspective(
                self._grain[index], matrix, (camera.width, high - low), dst=self._spare[low:high],
                flags=cv2.INTER_LINEAR, borderValue=(_GRAIN, _GRAIN, _GRAIN, 0),
            )  # fmt: skip
            cv2.add(part, grain, dst=part)

    @staticmethod
    def _straight(camera: Camera, points: np.ndarray) -> np.ndarray:
        """Project as if the road were straight: one homography for the whole ground."""
        scale = camera.focal / (points[:, 2] - camera.s)
        x = (points[:, 0] - camera.u) * (-1 if camera.style.mirrored else 1)
        return np.stack([camera.width / 2 + x * scale, camera.horizon + camera.y * scale], axis=1)

    def _add_shadows(self, p: Painter, shadows: list[np.ndarray], top: int) -> None:
        """Darken the ground under convex polygons, float (N, 3) each, leaving the labels."""
        if not shadows:
            return
        pixels = p.camera.project(np.concatenate(shadows))
        rows = slice(top, max(int(min(pixels[:, 1].max(), p.camera.height)), top) + 1)
        mask, part = self._mask[rows], p.canvas[rows]
        mask[:] = 0
        vertices = fixed(np.subtract(pixels, (0, top)))
        first = 0
        for polygon in shadows:
            last = first + len(polygon)
            cv2.fillConvexPoly(mask, vertices[first:last], (255,), cv2.LINE_8, SHIFT)
            first = last
        dark = cv2.LUT(part, self._dark, dst=self._spare[rows])
        cv2.copyTo(dark, mask, part)
