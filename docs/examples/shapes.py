"""Makes a tiny data set to try a training on: coloured shapes on a noisy ground, with their masks.

python docs/examples/shapes.py shapes
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

CLASSES = {"ground": (110, 130, 90), "ball": (200, 60, 50), "box": (60, 90, 200)}
"""Name -> red, green, blue."""


def draw(seed: int, size_hw: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 BGR (H, W, 3), and its mask, uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size_hw, np.uint8)
    for _ in range(3):
        x, y, half = int(rng.integers(10, 118)), int(rng.integers(10, 86)), int(rng.integers(8, 20))
        cv2.circle(mask, (x, y), half, 1, -1)
        x, y = int(rng.integers(10, 118)), int(rng.integers(10, 86))
        cv2.rectangle(mask, (x - half, y - half), (x + half, y + half), 2, -1)
    palette = np.array([colour[::-1] for colour in CLASSES.values()], float)
    light = rng.uniform(0.7, 1.2)
    picture = np.clip(palette[mask] * light + rng.normal(0, 18, (*size_hw, 3)), 0, 255).astype(np.uint8)
    return picture, mask


def main(root: Path, pictures: int = 40) -> None:
    """Writes the pictures, their masks and the list of classes."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        picture, mask = draw(number)
        cv2.imwrite(str(root / "images" / f"{number:03}.png"), picture)
        cv2.imwrite(str(root / "masks" / f"{number:03}.png"), mask)
    classes = [{"name": name, "rgb": list(rgb)} for name, rgb in CLASSES.items()]
    (root / "classes.json").write_text(json.dumps({"name": "shapes", "classes": classes}, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
