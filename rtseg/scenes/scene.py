"""One endless drive through a street: image and labels for any frame number."""

import cv2
import numpy as np

from rtseg.core.errors import UsageError
from rtseg.scenes.ground import FAR, Ground
from rtseg.scenes.layout import BlockMaker, make_stock
from rtseg.scenes.painter import Camera, Painter
from rtseg.scenes.style import make_style
from rtseg.scenes.textures import make_noise, make_sky, make_skyline
from rtseg.scenes.traffic import Traffic
from rtseg.scenes.world import BLOCK, Block, Item

_SLAB = 6.0  # metres; within a slab of road, houses are drawn first, then things on the pavement, then on the road
_NOISE_MARGIN = 64


class StreetScene:
    """A seeded drive, with exact labels in the classes of `rtseg.core.labels.CAMVID11`.

    Frame `index` is the drive at `index / fps` seconds and depends only on (size_hw, seed, fps, index).
    An object renders one frame at a time; use one scene per thread.

    Example:
        >>> image_bgr, labels = StreetScene((360, 480), seed=3).render(0)
    """

    def __init__(self, size_hw: tuple[int, int] = (512, 1024), seed: int = 0, fps: float = 30.0) -> None:
        if min(size_hw) < 16:
            raise UsageError(f"street scene of {size_hw[0]}x{size_hw[1]} pixels: each side must be at least 16")
        if not 0 < fps < float("inf"):
            raise UsageError(f"street scene at {fps} fps: the rate must be above 0, such as 30")
        if seed < 0:
            raise UsageError(f"street scene with seed {seed}: seeds are 0, 1, 2, ...")
        self.size_hw = size_hw
        self.seed = seed
        self.fps = fps
        self.style = make_style(seed)
        rng = np.random.default_rng((seed, 6))
        self._camera = Camera(size_hw, self.style, seed)
        self._painter = Painter(self._camera, self.style)
        self._blocks = BlockMaker(self.style, make_stock(rng, self.style, self._camera.focal), seed)
        self._cache: dict[tuple[int, int], Block] = {}
        self._traffic = Traffic(self.style, seed)
        self._ground = Ground(rng, self.style, size_hw)
        height, width = size_hw
        sky = make_sky(rng, self.style, (height, width))
        self._sky = np.ascontiguousarray(np.hstack([sky, sky]))
        band = max(int(self._camera.focal * 11.0 / FAR), 4)
        skyline, mask = make_skyline(rng, self.style, (band, width))
        self._skyline = np.hstack([skyline, skyline]), np.hstack([mask, mask])
        self._sharp = np.zeros((height, width, 3), np.uint8)
        self._noise = make_noise(rng, size_hw, self.style.noise, _NOISE_MARGIN)

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame `index` >= 0: image uint8 BGR (H, W, 3) and labels uint8 (H, W), both new arrays."""
        if index < 0:
            raise UsageError(f"street scene frame {index}: frame numbers start at 0")
        t = index / self.fps
        self._camera.place(t)
        self._draw_backdrop()
        blocks = self._visible_blocks()
        moving = list(self._traffic.items(self._camera, t))
        s = self._camera.s
        shadows = [shadow for block in blocks for shadow in block.shadows] + [shadow for _, shadow in moving]
        polygons = [shadow.polygon for shadow in shadows if shadow.high > s + 1.0 and shadow.low < s + 70.0]
        self._ground.draw(self._painter, blocks, polygons)
        items = [item for block in blocks for item in block.items] + [item for item, _ in moving]
        items = [item for item in items if s - 60.0 < item.s < s + item.reach]
        for item in sorted(items, key=self._order):
            item.draw(self._painter)
        return self._develop(index)

    @staticmethod
    def _order(item: Item) -> tuple[float, int, float]:
        return (-(item.s // _SLAB), item.layer, -item.s)

    def _visible_blocks(self) -> list[Block]:
        first = int((self._camera.s - 20.0) // BLOCK)
        keys = [(first + k, side) for k in range(5) for side in (-1, 1)]
        self._cache = {key: self._cache.get(key) or self._blocks.make(*key) for key in keys}
        return [self._cache[key] for key in keys]

    def _draw_backdrop(self) -> None:
        """Sky and skyline, shifted with the heading."""
        camera, canvas = self._camera, self._painter.canvas
        height, width = self.size_hw
        turn = camera.heading * camera.focal * (-1 if self.style.mirrored else 1)
        ground = int(np.clip(np.floor(camera.row(FAR)) + 1, 1, height))
        start = int(turn % width)
        # The sky's lowest rows meet the horizon; if the horizon is high, its top is cut.
        canvas[:ground] = self._sky[height - ground :, start : start + width]
        skyline, mask = self._skyline
        top = max(ground - skyline.shape[0], 0)
        rows = slice(skyline.shape[0] - (ground - top), None)
        cv2.copyTo(skyline[rows, start : start + width], mask[rows, start : start + width], canvas[top:ground])

    def _develop(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Separates colour from label, then adds the effects of lens and sensor."""
        sharp = cv2.cvtColor(self._painter.canvas, cv2.COLOR_BGRA2BGR, dst=self._sharp)
        labels = cv2.extractChannel(self._painter.canvas, 3)
        image = cv2.GaussianBlur(sharp, (3, 3), 0)
        rng = np.random.default_rng((self.seed, 7, index))
        y, x = (int(v) for v in rng.integers(0, _NOISE_MARGIN, 2))
        height, width = self.size_hw
        noise = self._noise[y : y + height, x : x + width]
        cv2.addWeighted(image, self.style.contrast, noise, 1.0, -16.0, dst=image)
        return image, labels
