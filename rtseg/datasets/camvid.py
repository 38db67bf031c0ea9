"""CamVid (Brostow et al. 2009) as SegNet laid it out: 360x480, 11 classes, id 11 is not labelled.

`ROOT/train.txt` lists the pictures of a split, which lie in `ROOT/train` with label pictures of the same name in
`ROOT/trainannot`; `val` and `test` likewise. The lists' folders are ignored: only their file names count.

The val split is one seven-second clip of a drive that train also has. So more splits are cut from train: `tail`, the
last 15 % in time of each of its drives, and `fit`, the rest: training on `fit` leaves `tail` unseen. And for each drive
`only-DRIVE` and `without-DRIVE`: training on the one and scoring on the other tells what a network makes of streets
that it never saw.
"""

from itertools import groupby
from pathlib import Path
from typing import ClassVar

from rtseg.core.errors import InputError
from rtseg.core.labels import CAMVID11
from rtseg.datasets.base import Pair, PairedFiles, read_lines
from rtseg.datasets.masks import IdMasks

TAIL_SHARE = 0.15
DRIVES = ("0001TP", "0006R0", "0016E5")
SPLITS = (
    "train",
    "val",
    "test",
    "fit",
    "tail",
    *(f"{kind}-{drive}" for drive in DRIVES for kind in ("only", "without")),
)


def _pieces() -> dict[str, frozenset[str]]:
    """The splits that are cut from train, and train, as what they have of each drive: its `fit` and its `tail`."""
    drives = (*DRIVES, "other")  # a user's list may have drives of its own
    both = {drive: {f"{drive}/fit", f"{drive}/tail"} for drive in drives}
    train = frozenset[str]().union(*both.values())
    of_drives = {f"only-{drive}": frozenset(both[drive]) for drive in DRIVES}
    others = {f"without-{drive}": train - both[drive] for drive in DRIVES}
    ends = {part: frozenset(f"{drive}/{part}" for drive in drives) for part in ("fit", "tail")}
    return {"train": train, **ends, **of_drives, **others}


PIECES = _pieces()


class CamVid(PairedFiles):
    """One split of CamVid: train, val, test, or what is cut from train: fit, tail, only-DRIVE, without-DRIVE."""

    name: ClassVar[str] = "camvid"
    collection: ClassVar[str] = "camvid"
    layout: ClassVar[str] = "train.txt, train/ and trainannot/, the same for val and test"
    splits: ClassVar[tuple[str, ...]] = SPLITS
    pieces: ClassVar[dict[str, frozenset[str]]] = PIECES
    default_split: ClassVar[str] = "fit"
    default_holdouts: ClassVar[tuple[str, ...]] = ("val", "tail")
    labels = CAMVID11
    masks = IdMasks({value: value for value in range(len(CAMVID11) + 1)})

    def __init__(self, root: Path | None, split: str) -> None:
        super().__init__(root, split)
        assert root is not None
        self._folder = "train" if split in PIECES else split
        names = cut_from_train(_listed_names(root, self._folder), split)
        if not names:
            raise InputError(f"{root / 'train.txt'} lists no pictures of the split {split}")
        self._labels_in = root / f"{self._folder}annot"
        self.pairs = [Pair(name, root / self._folder / name, self._labels_in / name) for name in names]

    def strays(self) -> list[Path]:
        pictures = self._labels_in.with_name(self._folder)
        return [mask for mask in sorted(self._labels_in.glob("*.png")) if not (pictures / mask.name).is_file()]

    @classmethod
    def _has(cls, root: Path | None, split: str) -> bool:
        return root is not None and (root / f"{split}.txt").is_file()


def _listed_names(root: Path, folder: str) -> list[str]:
    listing = root / f"{folder}.txt"
    if not listing.is_file():
        hint = ""
        if (root / "701_StillsRaw_full").is_dir():
            hint = "; it holds the original release: use the data set camvid-full or camvid32"
        raise InputError(f"{root} is not CamVid in SegNet's layout: {listing.name} is missing there{hint}")
    names = [Path(line.split()[0]).name for line in read_lines(listing)]
    if not names:
        raise InputError(f"{listing} lists no pictures")
    return names


def cut_from_train(names: list[str], split: str) -> list[str]:
    """The part of train's pictures that is `split`, which may be any: of train, val and test all of them.

    File names start with the drive, then count frames.
    """
    kind, _, drive = split.partition("-")
    if kind in ("only", "without"):
        return [name for name in names if name.startswith(drive) == (kind == "only")]
    if split not in ("fit", "tail"):
        return names
    cut: list[str] = []
    for _, of_drive in groupby(sorted(names), key=lambda name: name[:6]):
        frames = list(of_drive)
        first_of_tail = len(frames) - round(len(frames) * TAIL_SHARE)
        cut += frames[first_of_tail:] if split == "tail" else frames[:first_of_tail]
    return cut
