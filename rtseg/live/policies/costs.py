"""Predicts how long each rung of a ladder takes on a machine that is sometimes slower than when it was measured."""

from collections.abc import Collection, Sequence
from statistics import median

import numpy as np

_HISTORY = 1000  # runs: half a minute at 30 fps, and enough to see one slow run in a thousand
_FEWEST = 500  # shares are taken of at least this many runs, so that a hiccup at the start does not look frequent
_NEWEST, _SLOW = 8, 2  # the machine is busy if so many of the newest runs were slow; one alone is a hiccup


class Costs:
    """Predicts the seconds of every rung from the latest runs, whichever rungs they were.

    A busy machine slows all rungs by about the same factor, so one history of `took / measured` serves all.

    Args:
        measured_s: seconds of each rung on this machine, rung 0 first; must not be empty.
    """

    def __init__(self, measured_s: Sequence[float]) -> None:
        self._measured_s = np.array(measured_s, np.float64)
        self._factors = np.ones(1)  # `took / measured` of each run, oldest first

    def __len__(self) -> int:
        return len(self._measured_s)

    def took(self, rung: int, seconds: float) -> None:
        """Counts a run."""
        kept = self._factors[1 - _HISTORY - _NEWEST :]  # the oldest eight only tell whether later runs were foreseen
        self._factors = np.append(kept, seconds / self._measured_s[rung])

    def usual_s(self) -> np.ndarray:
        """The median time of each rung at the moment: float64 (rungs,), seconds."""
        return self._measured_s * float(median(self._factors[-_NEWEST:].tolist()))  # numpy's is much slower

    def late(self, left_s: float) -> np.ndarray:
        """The share of runs, 0 to 1, that would take longer than `left_s`: float64 (rungs,).

        While at least two of the newest eight runs were too slow, the machine counts as busy, and it is their share.
        Otherwise it is the share of the last 1000 runs that were late while the machine was not busy; if there were
        fewer than 500, they count as 500. Only the first two of a spell of slow runs count, since then a lower rung
        takes over.
        """
        slow = self._factors > left_s / self._measured_s[:, None]
        count = np.cumsum(slow, axis=1, dtype=np.int64)
        before = np.zeros_like(count)
        before[:, 1:] = count[:, :-1]
        before[:, _NEWEST + 1 :] -= count[:, : -_NEWEST - 1]
        unforeseen = (slow & (before < _SLOW))[:, -_HISTORY:].sum(axis=1) / np.clip(slow.shape[1], _FEWEST, _HISTORY)
        newest = slow[:, -_NEWEST:]
        late: np.ndarray = np.maximum(unforeseen, newest.mean(axis=1) * (newest.sum(axis=1) >= _SLOW))
        return late


def upper_quartile(values: Collection[float]) -> float:
    """The value that three in four do not exceed. There must be at least one."""
    return sorted(values)[3 * (len(values) - 1) // 4]
