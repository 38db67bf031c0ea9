"""CamVid (Brostow et al. 2009) in SegNet's layout: 360x480, 11 classes, id 11 is unlabelled.

`ROOT/train.txt` lists the pictures of a split, which are in `ROOT/train`, with label pictures of the same name in
`ROOT/trainannot`; `val` and `test` likewise. Folders in the lists are ignored: only the file names count.

The val split is a seven-second clip of a drive that is also in train. So more splits are cut from train: `tail`, the
last 15 % of each of its drives by time, and `fit`, the rest: training on `fit` leaves `tail` unseen. For each drive
there are also `only-DRIVE` and `without-DRIVE`: training on one and scoring on the other measures a network on streets
that it never saw. `eighth` is every eighth picture of each drive and `without-eighth` the rest, to measure training
with few labels and much unlabelled video.
"""

from itertools import groupby, product
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
    "eighth",
    "without-eighth",
    *(f"{kind}-{drive}" for drive in DRIVES for kind in ("only", "without")),
)


def _pieces() -> dict[str, frozenset[str]]:
    """Splits cut from train, and train itself, as sets of pieces (drive, end of the drive, share)."""
    drives = (*DRIVES, "other")  # a user's list may contain other drives
    train = frozenset("/".join(piece) for piece in product(drives, ("fit", "tail"), ("eighth", "rest")))

    def having(word: str) -> frozenset[str]:
        return frozenset(piece for piece in train if word in piece.split("/"))

    of_drives = {f"only-{drive}": having(drive) for drive in DRIVES}
    others = {f"without-{word}": train - having(word) for word in ("eighth", *DRIVES)}
    return {"train": train, **{word: having(word) for word in ("fit", "tail", "eighth")}, **of_drives, **others}


PIECES = _pieces()


class CamVid(PairedFiles):
    """One split of CamVid: train, val, test, or a part of train: fit, tail, eighth, only-DRIVE, without-…."""

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
    """The part of train's pictures that forms `split`; train, val and test keep all of theirs.

    File names start with the drive, then count frames.
    """
    if split in ("eighth", "without-eighth"):
        chosen = {name for frames in _by_drive(names) for name in frames[::8]}
        return [name for name in names if (name in chosen) == (split == "eighth")]
    kind, _, drive = split.partition("-")
    if kind in ("only", "without"):
        return [name for name in names if name.startswith(drive) == (kind == "only")]
    if split not in ("fit", "tail"):
        return names
    cut: list[str] = []
    for frames in _by_drive(names):
        first_of_tail = len(frames) - round(len(frames) * TAIL_SHARE)
        cut += frames[first_of_tail:] if split == "tail" else frames[:first_of_tail]
    return cut


def _by_drive(names: list[str]) -> list[list[str]]:
    """The pictures of each drive, in temporal order."""
    return [list(of_drive) for _, of_drive in groupby(sorted(names), key=lambda name: name[:6])]
