"""Scores of each exit of a network, and the entropies below which frames may leave there."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from rtseg.core.labels import LabelSet
from rtseg.metrics.confusion import ConfusionMatrix, rounded

_CANDIDATES = 32  # thresholds to try per exit
NEVER = 0.0
"""A threshold below which no entropy lies."""


class ExitScores:
    """Collects labels and entropies of every exit, frame by frame.

    Args:
        labels: the classes.
        names: of the exits in order, the end of the network last.
        costs: cost of a frame up to each exit, in any unit.
    """

    def __init__(self, labels: LabelSet, names: Sequence[str], costs: Sequence[float]) -> None:
        self.labels, self.names, self.costs = labels, tuple(names), np.asarray(costs, np.float64)
        self._counts: list[np.ndarray] = []  # (exits, C, C) per frame, [truth, predicted]
        self._entropies: list[Sequence[float]] = []

    def update(self, predicted: Sequence[np.ndarray], entropies: Sequence[float], truth: np.ndarray) -> None:
        """Adds a frame: each exit's labels, uint8 (H, W), and entropy, 0 to 1, and the truth, uint8 (H, W)."""
        counts = []
        for given in predicted:
            matrix = ConfusionMatrix(self.labels)
            matrix.update(given, truth)
            counts.append(matrix.counts)
        self._counts.append(np.stack(counts))
        self._entropies.append(entropies)

    def leaving(self, thresholds: Sequence[float]) -> tuple[ConfusionMatrix, list[float], float]:
        """Simulates that each frame leaves at the first exit whose entropy is below its threshold.

        Args:
            thresholds: of each exit but the last.

        Returns:
            The confusion over all frames, the share of frames that left at each exit, and the mean cost per frame.
        """
        counts, below = np.stack(self._counts), np.asarray(self._entropies)[:, :-1] < np.asarray(thresholds)
        stops = np.append(below, np.ones((len(below), 1), bool), 1).argmax(1)
        matrix = ConfusionMatrix(self.labels, counts[np.arange(len(stops)), stops].sum(0), len(stops))
        shares = np.bincount(stops, minlength=len(self.names)) / len(stops)
        return matrix, shares.tolist(), float(self.costs[stops].mean())

    def at(self, exit: int) -> ConfusionMatrix:
        """The confusion over all frames if they all stop at one exit."""
        return ConfusionMatrix(self.labels, np.stack(self._counts)[:, exit].sum(0), len(self._counts))

    def calibrate(self, loss: float) -> list[float]:
        """The cheapest thresholds, by mean cost, with which leaving early loses at most `loss` of the last exit's mIoU.

        Tries all combinations of up to 33 per exit: midpoints between the entropies that occurred, and `NEVER`. No
        frame leaves that is less certain than the least certain of these.
        """
        least = self.at(-1).miou - loss
        columns = np.sort(np.asarray(self._entropies)[:, :-1], 0).T
        choices = list(product(*(_candidates(column) for column in columns)))
        best, lowest = choices[0], np.inf
        for thresholds in choices:
            matrix, _, cost = self.leaving(thresholds)
            if matrix.miou >= least and cost < lowest:
                best, lowest = thresholds, cost
        return list(best)

    def to_json(self, thresholds: Sequence[float | None]) -> dict[str, Any]:
        """Each exit's scores and, if there are thresholds for all but the last, those of leaving early."""
        figures: dict[str, Any] = {
            "exits": [
                {"exit": name, "gmac": round(float(cost), 2), **self.at(number).to_json()}
                for number, (name, cost) in enumerate(zip(self.names, self.costs, strict=True))
            ]
        }
        if None not in thresholds:
            matrix, shares, cost = self.leaving([threshold or NEVER for threshold in thresholds])
            stopped = dict(zip(self.names, (rounded(share) for share in shares), strict=True))
            figures["auto"] = {"miou": rounded(matrix.miou), "gmac": round(cost, 2), "stopped": stopped,
                               "thresholds": list(thresholds)}  # fmt: skip
        return figures


def _candidates(entropies: np.ndarray) -> list[float]:
    """`NEVER`, and evenly spread thresholds between neighbouring sorted entropies, or just above the last."""
    between = [*((entropies[:-1] + entropies[1:]) / 2), entropies[-1] * (1 + 1e-6)]
    taken = np.unique(np.linspace(0, len(between) - 1, min(_CANDIDATES, len(between))).round().astype(int))
    return [NEVER, *(float(between[index]) for index in taken)]
