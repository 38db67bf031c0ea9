"""Cityscapes (Cordts et al. 2016), fine annotations: 1024x2048, the benchmark's 19 classes.

`ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` is a picture, `ROOT/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png` its
labels. The files hold ids 0 to 33, of which 19 are classes; the others are not scored and become the ignore index 255.
The test split is missing because its labels are not published.
"""

from pathlib import Path
from typing import ClassVar

from rtseg.core.labels import LabelSet
from rtseg.datasets.base import Pair, PairedFiles, listed
from rtseg.datasets.masks import Colour, IdMasks

# class in the benchmark's order (its "trainId"), id in the files, colour (red, green, blue)
CLASSES: tuple[tuple[str, int, Colour], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
CITYSCAPES19 = LabelSet(
    "cityscapes19", tuple(name for name, _, _ in CLASSES), tuple(colour for _, _, colour in CLASSES)
)
_LARGEST_ID = 33

_PICTURE_END, _MASK_END = "_leftImg8bit.png", "_gtFine_labelIds.png"


class Cityscapes(PairedFiles):
    """One split of Cityscapes: train or val."""

    name: ClassVar[str] = "cityscapes"
    layout: ClassVar[str] = f"leftImg8bit/SPLIT/CITY/*{_PICTURE_END} and gtFine/SPLIT/CITY/*{_MASK_END}"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    labels = CITYSCAPES19
    masks = IdMasks(
        dict.fromkeys(range(_LARGEST_ID + 1), CITYSCAPES19.ignore_index)
        | {file_id: index for index, (_, file_id, _) in enumerate(CLASSES)}
    )

    def __init__(self, root: Path | None, split: str) -> None:
        super().__init__(root, split)
        assert root is not None
        self._labels_in = root / "gtFine" / split
        self.pairs = []
        for picture in listed(root / "leftImg8bit" / split, f"*/*{_PICTURE_END}", self.layout):
            name = picture.name.removesuffix(_PICTURE_END)
            self.pairs.append(Pair(name, picture, self._labels_in / picture.parent.name / f"{name}{_MASK_END}"))

    def strays(self) -> list[Path]:
        paired = {pair.mask for pair in self.pairs}
        return sorted(mask for mask in self._labels_in.glob(f"*/*{_MASK_END}") if mask not in paired)

    @classmethod
    def _has(cls, root: Path | None, split: str) -> bool:
        return root is not None and (root / "leftImg8bit" / split).is_dir()
