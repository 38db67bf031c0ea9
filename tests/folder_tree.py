"""A small, random folder of labelled pictures."""

import json
from pathlib import Path

import cv2
import numpy as np

CLASSES = [
    {"name": "grass", "rgb": [0, 128, 0]},
    {"name": "path", "rgb": [128, 128, 128]},
    {"name": "shed", "rgb": [128, 0, 0]},
]


def make_folder(root: Path, names: list[str], size_hw: tuple[int, int] = (48, 64), suffix: str = ".jpg") -> Path:
    """Pictures `images/NAME.jpg`, each with `masks/NAME.png` of ids 0 to 2 and 255, and `classes.json`."""
    rng = np.random.default_rng(0)
    for name in names:
        picture, mask = root / "images" / f"{name}{suffix}", root / "masks" / f"{name}.png"
        for path in (picture, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 255, (size_hw[0] // 8, size_hw[1] // 8, 3), np.uint8)
        cv2.imwrite(str(picture), np.kron(coarse, np.ones((8, 8, 1), np.uint8)))
        cv2.imwrite(str(mask), rng.choice([0, 1, 2, 255], size_hw).astype(np.uint8))
    write_classes(root)
    return root


def write_classes(root: Path, **changes: object) -> None:
    (root / "classes.json").write_text(json.dumps({"classes": CLASSES, **changes}))
