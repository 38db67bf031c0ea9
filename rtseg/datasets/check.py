"""Checks a data set: unusable files, near-duplicates across splits, and how often each class occurs.

Near-duplicates are found by a difference hash: the grey picture is shrunk to 17x16, and each of the 256 pairs of
horizontal neighbours yields a bit: whether the right one is brighter. Pictures are alike if few of the bits differ.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import cv2
import numpy as np

from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size, format_size
from rtseg.datasets.base import DataSet
from rtseg.datasets.masks import SampleError

ALIKE_BITS = 32
"""Default for the largest number of bits, of 256, in which near-duplicates differ.

Measured on CamVid: frames 1/15 s apart differ in 9 to 42 bits, half of them in 21; different places in 72 or more.
"""
KINDS: dict[str, str] = {
    "missing": "pictures or label pictures that are missing",
    "stray": "label pictures without a picture",
    "split": "pictures that are in no split, or splits that are missing",
    "unreadable": "files that cannot be read",
    "size": "label pictures of another size than their picture",
    "unknown label": "label pictures with ids or colours that no class has",
    "class": "classes that no pixel of a split has",
    "duplicate": "pictures that are nearly the same as one of another split",
}

DOUBTS = "pictures whose labels may not fit them, though the files are in order: look at them with --picture"

Hashes = list[tuple[str, np.ndarray]]  # name, uint64 (4,)

_HASH_HW = (16, 17)
_ROWS_AT_ONCE = 256  # of the distance table


@dataclass
class SplitReport:
    """The contents of a split; unusable pictures count in `pictures` only.

    Attributes:
        pixels: int64 (256,): pixels of each label.
        occurs_in: int64 (256,): pictures in which a label occurs.
        hashes: of each usable picture.
    """

    pictures: int
    sizes: Counter[Size] = field(default_factory=Counter)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    occurs_in: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    hashes: Hashes = field(default_factory=list)

    def to_json(self, labels: LabelSet) -> dict[str, Any]:
        total = max(1, int(self.pixels.sum()))
        shares = {
            name: {
                "pixels": int(self.pixels[index]),
                "share": round(int(self.pixels[index]) / total, 6),
                "pictures": int(self.occurs_in[index]),
            }
            for index, name in enumerate(labels.names)
        }
        return {
            "pictures": self.pictures,
            "sizes": {format_size(size): count for size, count in self.sizes.most_common()},
            "unlabelled": round(int(self.pixels[labels.ignore_index]) / total, 6),
            "classes": shares,
        }


@dataclass
class CheckReport:
    """The splits, each problem as one line under its kind (`KINDS`), and what a person should look at (`DOUBTS`)."""

    labels: LabelSet
    splits: dict[str, SplitReport] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.problems

    def to_json(self, first: int) -> dict[str, Any]:
        """JSON values with at most the `first` problems of each kind."""
        return {
            "clean": self.clean,
            "problems": {kind: {"count": len(lines), "first": lines[:first]} for kind, lines in self.problems.items()},
            "doubts": {"count": len(self.doubts), "first": self.doubts[:first]},
            "splits": {split: report.to_json(self.labels) for split, report in self.splits.items()},
        }


@dataclass(frozen=True)
class _Seen:
    """The data kept of a sample."""

    name: str
    size_hw: Size
    pixels: np.ndarray
    hash: np.ndarray
    doubt: str | None


def check(
    sets: list[DataSet],
    alike_bits: int = ALIKE_BITS,
    threads: int = 1,
    follow: Callable[[Iterable[Any], str, int], Iterable[Any]] = lambda items, title, total: items,
) -> CheckReport:
    """Reads every sample of the given splits of one data set.

    Args:
        sets: splits that should not share pictures.
        alike_bits: pictures of two splits that differ in at most this many of the 256 bits are near-duplicates; a
            negative number turns the search off.
        threads: files read at the same time.
        follow: wraps the results of a split to show progress; called with a title and the number of results.
    """
    report = CheckReport(sets[0].labels)
    for data in sets:
        split = report.splits[data.split] = SplitReport(len(data))
        with ThreadPoolExecutor(threads) as pool:
            looks: Any = pool.map(partial(_look, data), range(len(data)))
            with closing(looks):  # Ctrl+C should not wait for the rest
                for seen in follow(looks, data.split, len(data)):
                    _note(report, split, seen)
        for line in _empty_classes(report.labels, data.split, split):
            _add(report, "class", line)
        for path in data.strays():
            _add(report, "stray", f"{path} has no picture")
    for line in sets[0].gaps():
        _add(report, "split", line)
    if alike_bits >= 0:
        for (one, first), (two, second) in combinations(report.splits.items(), 2):
            for name, twin, bits in near_duplicates(first.hashes, second.hashes, alike_bits):
                _add(report, "duplicate", f"{two}/{name} differs in {bits} of 256 bits from {one}/{twin}")
    return report


def _look(data: DataSet, index: int) -> _Seen | SampleError:
    try:
        sample = data.sample(index)
    except SampleError as error:
        return error
    pixels = np.bincount(sample.labels.ravel(), minlength=256)
    height, width = sample.labels.shape
    return _Seen(sample.name, (height, width), pixels, difference_hash(sample.image), data.doubt(index))


def _note(report: CheckReport, split: SplitReport, seen: _Seen | SampleError) -> None:
    if isinstance(seen, SampleError):
        _add(report, seen.kind, str(seen))
        return
    split.sizes[seen.size_hw] += 1
    split.pixels += seen.pixels
    split.occurs_in += seen.pixels > 0
    split.hashes.append((seen.name, seen.hash))
    if seen.doubt:
        report.doubts.append(seen.doubt)


def _empty_classes(labels: LabelSet, name: str, split: SplitReport) -> Iterator[str]:
    if not split.pixels.any():
        return  # nothing can be read
    unlabelled = int(split.pixels[labels.ignore_index])
    share = unlabelled / int(split.pixels.sum())
    hint = f"; {share:.1%} of all pixels are unlabelled, are they meant?" if unlabelled else ""
    for index, label in enumerate(labels.names):
        if not split.pixels[index]:
            yield f"{name} has no pixel of {label!r}{hint}"


def _add(report: CheckReport, kind: str, line: str) -> None:
    report.problems.setdefault(kind, []).append(line)


def difference_hash(image: np.ndarray) -> np.ndarray:
    """uint8 BGR (H, W, 3) -> uint64 (4,): the 256 bits of the hash (dHash, N. Krawetz 2013, with 16 rows)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, _HASH_HW[::-1], interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def near_duplicates(first: Hashes, second: Hashes, bits: int) -> Iterator[tuple[str, str, int]]:
    """Yields (name in second, nearest name in first, differing bits) for each that has one within `bits`."""
    if not first or not second:
        return
    table = np.stack([hash_ for _, hash_ in first])
    for start in range(0, len(second), _ROWS_AT_ONCE):
        rows = np.stack([hash_ for _, hash_ in second[start : start + _ROWS_AT_ONCE]])
        differing = [np.bitwise_count(rows[:, None, word] ^ table[None, :, word]) for word in range(table.shape[1])]
        distances = np.asarray(np.sum(differing, axis=0, dtype=np.int16))
        for row, nearest in enumerate(distances.argmin(1)):
            if distances[row, nearest] <= bits:
                yield second[start + row][0], first[nearest][0], int(distances[row, nearest])
