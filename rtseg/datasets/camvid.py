"""CamVid (Brostow et al. 2009) as SegNet laid it out: 360x480, 11 classes, id 11 is not labelled.

`ROOT/train.txt` lists the pictures of a split, which lie in `ROOT/train` with label pictures of the same name in
`ROOT/trainannot`; `val` and `test` likewise. The lists' folders are ignored: only their file names count.

The val split is one seven-second clip of a drive that train also has. So two more splits are cut from train: `tail`,
the last 15 % in time of each of its drives, and `fit`, the rest. Training on `fit` leaves `tail` unseen.
"""

from itertools import groupby
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from rtseg.core.errors import InputError, UsageError
from rtseg.core.labels import CAMVID11
from rtseg.datasets.base import DataSet, Sample

TAIL_SHARE = 0.15


class CamVid(DataSet):
    """One split of CamVid: train, val, test, or train's parts fit and tail."""

    name: ClassVar[str] = "camvid"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test", "fit", "tail")
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"train": ("fit", "tail")}
    labels = CAMVID11

    def __init__(self, root: Path | None, split: str) -> None:
        super().__init__(root, split)
        if root is None:
            raise UsageError("camvid needs --root: the folder that holds train.txt, train/ and trainannot/")
        self.folder = "train" if split in ("fit", "tail") else split
        names = _listed_names(root, self.folder)
        self.names = _cut_tail(names, split) if split in ("fit", "tail") else names
        self.size_hw = self._picture(0).shape[:2]

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, index: int) -> Sample:
        image = self._picture(index)
        path = self._path(f"{self.folder}annot", index)
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
            raise InputError(f"{path} is not a picture of 8-bit class ids (grey, no palette)")
        if labels.shape != image.shape[:2]:
            raise InputError(f"{path} is {labels.shape} but its picture is {image.shape[:2]}: sizes must agree")
        known = labels[labels != CAMVID11.ignore_index]
        if known.size and known.max() >= len(CAMVID11):
            raise InputError(f"{path} holds id {known.max()}; allowed: 0..10, and 11 for not labelled")
        return Sample(self.names[index], image, labels)

    def _path(self, folder: str, index: int) -> Path:
        assert self.root is not None
        return self.root / folder / self.names[index]

    def _picture(self, index: int) -> np.ndarray:
        path = self._path(self.folder, index)
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"{path} is missing or not a picture")
        return image


def _listed_names(root: Path, folder: str) -> list[str]:
    listing = root / f"{folder}.txt"
    if not listing.is_file():
        raise InputError(f"{root} is not CamVid in SegNet's layout: {listing.name} is missing there")
    lines = listing.read_text(encoding="utf-8").splitlines()
    names = [Path(line.split()[0]).name for line in lines if line.strip()]
    if not names:
        raise InputError(f"{listing} lists no pictures")
    return names


def _cut_tail(names: list[str], split: str) -> list[str]:
    """The last 15 % of each drive, or all that comes before; file names start with the drive, then count frames."""
    cut: list[str] = []
    for _, drive in groupby(sorted(names), key=lambda name: name[:6]):
        frames = list(drive)
        first_of_tail = len(frames) - round(len(frames) * TAIL_SHARE)
        cut += frames[first_of_tail:] if split == "tail" else frames[:first_of_tail]
    return cut
