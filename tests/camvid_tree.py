"""A folder in CamVid's layout, small and random."""

from pathlib import Path

import cv2
import numpy as np
import pytest

NAMES = [f"0001TP_{i:06d}.png" for i in range(20)] + [f"Seq05V_{i:06d}.png" for i in range(40)]


def make_camvid(root: Path, names: list[str], split: str = "train", size_hw: tuple[int, int] = (48, 64)) -> None:
    rng = np.random.default_rng(0)
    for folder in (split, f"{split}annot"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(root / split / name), rng.integers(0, 255, (*size_hw, 3), np.uint8))
        cv2.imwrite(str(root / f"{split}annot" / name), rng.integers(0, 12, size_hw).astype(np.uint8))
    lines = [f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}" for name in names]
    (root / f"{split}.txt").write_text("\n".join(lines) + "\n")


def small_camvid(folders: pytest.TempPathFactory, train: int, val: int) -> Path:
    """The given numbers of pictures: of one drive in train, and of another in val."""
    folder = folders.mktemp("camvid")
    make_camvid(folder, NAMES[:train])
    make_camvid(folder, NAMES[20 : 20 + val], "val")
    return folder


@pytest.fixture(scope="session")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of train and two of val, for tests that only read them."""
    return small_camvid(tmp_path_factory, 4, 2)
