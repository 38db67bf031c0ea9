"""Scores of refining only a frame's uncertain regions (ADP-C, Liu et al. 2022), found on whole pictures.

A refined tile gets the same labels as from the whole network, because its halo is large enough. So the two sets of
labels, tile by tile, yield the result for any threshold, without running any part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtseg.core.card import Card
from rtseg.core.exits import Regions
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size, format_size
from rtseg.metrics.confusion import ConfusionMatrix, rounded
from rtseg.pictures.tiles import Tile, Tiling

LEVELS = (0.0, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999)
_SIDES = (2, 3, 4, 6, 8)  # of tiles, in multiples of the network's size


@dataclass(frozen=True)
class Start:
    """An exit at which regions may stop.

    Attributes:
        number: of the exit.
        name: of the exit.
        halo: see `Exit`.
        costs: of a frame that stops here, and of one that runs to the end, in any unit.
    """

    number: int
    name: str
    halo: int
    costs: tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """The result of one choice of regions.

    Attributes:
        start: the exit.
        regions: the choice.
        miou: of the split.
        cost: mean per frame.
        refined: mean share of the pixels that are refined, halos left out.
    """

    start: Start
    regions: Regions
    miou: float
    cost: float
    refined: float

    def to_json(self) -> dict[str, Any]:
        return {"exit": self.start.name, "sure": self.regions.sure, "tile": format_size(self.regions.tile_hw),
                "miou": rounded(self.miou), "gmac": round(self.cost, 2), "refined": rounded(self.refined)}  # fmt: skip


class RegionScores:
    """Collects the results of several tile sizes at several levels of confidence, frame by frame.

    Args:
        labels: the classes.
        starts: the exits at which regions may stop.
        size_hw: of the network's input.
        multiple: all tile sizes are multiples of this.
        tile_sizes: the tile sizes.
        levels: probabilities from which a cell counts as certain.
    """

    def __init__(
        self, labels: LabelSet, starts: Sequence[Start], size_hw: Size, multiple: int, tile_sizes: Sequence[Size],
        levels: Sequence[float] = LEVELS,
    ) -> None:  # fmt: skip
        self._labels = labels
        self._grid = size_hw[0] // multiple, size_hw[1] // multiple
        self._tallies = [
            _Tally(labels, start, Tiling(size_hw, tile_hw, start.halo), multiple, levels)
            for start in starts for tile_hw in tile_sizes
        ]  # fmt: skip

    def update(self, predicted: Sequence[np.ndarray], sure: Sequence[np.ndarray], truth: np.ndarray) -> None:
        """Adds a frame.

        Args:
            predicted: labels of every exit, uint8 (H, W).
            sure: confidence in each of the exit's cells, float (h, w).
            truth: uint8 (H, W).
        """
        if not self._tallies:
            return
        counts = [self._counts(labels, truth) for labels in predicted]
        for tally in self._tallies:
            tally.update(counts[tally.start.number], sure[tally.start.number], counts[-1])

    def choices(self) -> list[Choice]:
        """The result for each exit, size and level."""
        return [choice for tally in self._tallies for choice in tally.choices()]

    def _counts(self, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Pixels of each of the smallest tiles by class, int64 (rows, columns, C, C), [truth, predicted]."""
        height, width = self._grid
        classes, known = len(self._labels), truth != self._labels.ignore_index
        rows, columns = (
            (2 * np.arange(pixels) + 1) * tiles // (2 * pixels)
            for pixels, tiles in zip(truth.shape, self._grid, strict=True)
        )  # the tile of each pixel
        cells = (rows[:, None] * width + columns)[known] * classes + truth[known]
        counts = np.bincount(cells * classes + predicted[known], minlength=height * width * classes**2)
        return counts.reshape(height, width, classes, classes)


class _Tally:
    """The results of one tile size behind one exit at each level."""

    def __init__(
        self, labels: LabelSet, start: Start, tiling: Tiling, multiple: int, levels: Sequence[float]
    ) -> None:  # fmt: skip
        self.start = start
        self._tiling, self._multiple, self._levels = tiling, multiple, levels
        self._matrices = [ConfusionMatrix(labels) for _ in levels]
        self._shares = np.zeros((len(levels), 2))  # sums of the work behind the exit, and of the refined pixels
        self._frames = 0

    def update(self, early: np.ndarray, sure: np.ndarray, last: np.ndarray) -> None:
        """Adds a frame: counts per smallest tile at the exit, its confidence, and counts at the network's end."""
        tiling, least = self._tiling, self._tiling.least(sure)
        places = [Tile(*(side // self._multiple for side in tile)).slices for tile in tiling.tiles]
        counts = np.stack([[of[place].sum((0, 1)) for place in places] for of in (early, last)])
        areas = np.array([early[place][..., 0, 0].size for place in places]) / early[..., 0, 0].size
        for number, level in enumerate(self._levels):
            unsure = least < level
            work = tiling.work(int(unsure.sum()))
            unsure |= work == 1  # then the whole picture is refined
            self._matrices[number].counts += np.where(unsure[:, None, None], counts[1], counts[0]).sum(0)
            self._shares[number] += work, areas[unsure].sum()
        self._frames += 1

    def choices(self) -> list[Choice]:
        """The result for each level."""
        early, last = self.start.costs
        found = []
        for level, matrix, sums in zip(self._levels, self._matrices, self._shares, strict=True):
            work, refined = (sums / self._frames).tolist()
            regions = Regions(level, self._tiling.tile_hw)
            found.append(Choice(self.start, regions, matrix.miou, early + work * (last - early), refined))
        return found


def region_scores(card: Card, size_hw: Size, calibrate: bool) -> RegionScores:
    """Scores for the regions in a card or, with `calibrate`, for all that may be chosen; possibly none.

    Args:
        card: of a network with exits.
        size_hw: of its input.
        calibrate: whether to try every exit with a halo, several tile sizes, and `LEVELS`.
    """
    exits, whole = card.exits, card.exits[-1].gmac_1024x2048
    starts = [
        Start(number, each.name, each.halo, (each.gmac_1024x2048, whole))
        for number, each in enumerate(exits)
        if each.halo is not None and (calibrate or each.regions is not None)
    ]
    kept = [each.regions for each in exits if each.regions is not None]
    tiles = tile_sizes(size_hw, card.size_multiple) if calibrate else [each.tile_hw for each in kept]
    levels = LEVELS if calibrate else [each.sure for each in kept]
    return RegionScores(card.labels, starts, size_hw, card.size_multiple, tiles, levels)


def tile_sizes(size_hw: Size, multiple: int) -> list[Size]:
    """Sizes worth trying: squares, and bands as wide as the picture."""
    sides = [multiple * times for times in _SIDES if multiple * times < size_hw[0]]
    return [*((side, side) for side in sides), *((side, size_hw[1]) for side in sides)]


def cheapest(choices: Sequence[Choice], least_miou: float) -> Choice | None:
    """The cheapest choice that scores enough and costs less than the whole network, or None."""
    enough = [each for each in choices if each.miou >= least_miou and each.cost < each.start.costs[1]]
    return min(enough, key=lambda each: each.cost, default=None)
