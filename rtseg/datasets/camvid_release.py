"""CamVid (Brostow et al. 2009) as its authors released it: 720x960, labels as colours, 31 classes and Void.

`ROOT/701_StillsRaw_full/NAME.png` is a picture, `ROOT/LabeledApproved_full/NAME_L.png` its labels in the colours of
the release's `label_colors.txt`, whose 32 entries are in the table below. Void means that a pixel is none of the other
31 classes, so here it is unlabelled: neither trained on nor scored.

The release has no splits. These are SegNet's (Badrinarayanan 2017), written as rules on drive and frame that yield its
367, 101 and 233 pictures:

- val: drive 0016E5, frames 7959 to 8159 (the stretch labelled at 15 Hz);
- test: drive Seq05VD, and drive 0001TP from frame 8550 on (its second half);
- train: everything else. `fit`, `tail` and the others are cut from it as in the data set camvid.

The 11 classes that most papers score are groups of the 31; Animal, say, counts as pedestrian.
"""

import re
from pathlib import Path
from typing import ClassVar

from rtseg.core.errors import InputError
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.datasets.base import Pair, PairedFiles, listed
from rtseg.datasets.camvid import PIECES, SPLITS, cut_from_train
from rtseg.datasets.masks import Colour, ColourMasks

VOID: Colour = (0, 0, 0)
# class of the release, its colour (red, green, blue), its group among the 11 classes
RELEASE: tuple[tuple[str, Colour, str], ...] = (
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Archway", (192, 0, 128), "building"),
    ("Bicyclist", (0, 128, 192), "cyclist"),
    ("Bridge", (0, 128, 64), "building"),
    ("Building", (128, 0, 0), "building"),
    ("Car", (64, 0, 128), "car"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("Fence", (64, 64, 128), "fence"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Misc_Text", (128, 128, 64), "sign"),
    ("MotorcycleScooter", (192, 0, 192), "cyclist"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Road", (128, 64, 128), "road"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("SignSymbol", (192, 128, 128), "sign"),
    ("Sky", (128, 128, 128), "sky"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("TrafficLight", (0, 64, 64), "sign"),
    ("Train", (192, 64, 128), "car"),
    ("Tree", (128, 128, 0), "tree"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Tunnel", (64, 0, 64), "building"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("Wall", (64, 192, 0), "building"),
)
CAMVID32 = LabelSet("camvid32", tuple(name for name, _, _ in RELEASE), tuple(colour for _, colour, _ in RELEASE))

_PICTURES, _LABELS = "701_StillsRaw_full", "LabeledApproved_full"


class CamVid32(PairedFiles):
    """One split of the release with its own classes; the splits are those of the data set camvid."""

    name: ClassVar[str] = "camvid32"
    collection: ClassVar[str] = "camvid"
    layout: ClassVar[str] = f"{_PICTURES}/NAME.png and {_LABELS}/NAME_L.png"
    splits: ClassVar[tuple[str, ...]] = SPLITS
    pieces: ClassVar[dict[str, frozenset[str]]] = PIECES
    default_split: ClassVar[str] = "fit"
    default_holdouts: ClassVar[tuple[str, ...]] = ("val", "tail")
    labels = CAMVID32

    def __init__(self, root: Path | None, split: str) -> None:
        super().__init__(root, split)
        assert root is not None
        if (root / "trainannot").is_dir():
            raise InputError(
                f"{root} holds CamVid in SegNet's layout, not the original release: use the data set camvid"
            )
        stems = [path.stem for path in listed(root / _PICTURES, "*.png", self.layout)]
        self._whole = "train" if split in PIECES else split
        names = cut_from_train([stem for stem in stems if split_of(stem) == self._whole], split)
        if not names:
            raise InputError(f"{root / _PICTURES} holds no picture of the {split} split")
        self.pairs = [Pair(stem, root / _PICTURES / f"{stem}.png", root / _LABELS / f"{stem}_L.png") for stem in names]
        self.masks = ColourMasks(self.meaning())

    @classmethod
    def meaning(cls) -> dict[Colour, int]:
        """The class of each colour."""
        return {colour: index for index, (_, colour, _) in enumerate(RELEASE)} | {VOID: cls.labels.ignore_index}

    @classmethod
    def _has(cls, root: Path | None, split: str) -> bool:
        return root is not None and any(split_of(path.stem) == split for path in (root / _PICTURES).glob("*.png"))

    def strays(self) -> list[Path]:
        assert self.root is not None
        stems = [path.name.removesuffix("_L.png") for path in sorted((self.root / _LABELS).glob("*_L.png"))]
        alone = [stem for stem in stems if not (self.root / _PICTURES / f"{stem}.png").is_file()]
        return [self.root / _LABELS / f"{stem}_L.png" for stem in alone if split_of(stem) == self._whole]


class CamVidFull(CamVid32):
    """The release at full size, with its classes grouped into the 11 of the data set camvid."""

    name: ClassVar[str] = "camvid-full"
    labels = CAMVID11

    @classmethod
    def meaning(cls) -> dict[Colour, int]:
        return {colour: cls.labels.index(group) for _, colour, group in RELEASE} | {VOID: cls.labels.ignore_index}


def split_of(stem: str) -> str:
    """SegNet's split for a picture of the release, for example 0016E5_07959 or 0006R0_f00930."""
    drive, _, frame = stem.partition("_")
    digits = re.match(r"f?(\d+)", frame)
    number = int(digits[1]) if digits else 0
    if drive == "0016E5" and 7959 <= number <= 8159:
        return "val"
    if drive == "Seq05VD" or (drive == "0001TP" and number >= 8550):
        return "test"
    return "train"
