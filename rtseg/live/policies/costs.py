"""What each rung of a ladder will take on a machine that is not always as fast as when it was measured."""

from collections.abc import Collection, Sequence
from statistics import median

import numpy as np

_HISTORY = 1000  # runs: half a minute at 30 fps, and enough to see one slow run in a thousand
_FEWEST = 200  # runs that a share is taken of at least, so that a hiccup at the start is not one in ten
_NEWEST, _SLOW = 8, 2  # a machine is busy if so many of the newest runs were slow: one alone is a hiccup


class Costs:
    """Predicts the seconds of every rung from what the last runs took, whichever rung ran.

    A busy machine slows all rungs by about the same factor, so one history of `took / measured` serves all.

    Args:
        measured_s: seconds of each rung on this machine, rung 0 first; not empty.
    """

    def __init__(self, measured_s: Sequence[float]) -> None:
        self._measured_s = np.array(measured_s, np.float64)
        self._factors = np.ones(1)  # `took / measured` of each run, oldest first

    def __len__(self) -> int:
        return len(self._measured_s)

    def took(self, rung: int, seconds: float) -> None:
        """Counts a run."""
        kept = self._factors[1 - _HISTORY - _NEWEST :]  # the oldest eight say what was foreseen
        self._factors = np.append(kept, seconds / self._measured_s[rung])

    def usual_s(self) -> np.ndarray:
        """What each rung takes now, in the median: float64 (rungs,)."""
        return self._measured_s * float(median(self._factors[-_NEWEST:].tolist()))  # numpy's takes far longer

    def late(self, left_s: float) -> np.ndarray:
        """The share of runs, 0 to 1, that would not end in `left_s`: float64 (rungs,).

        While a machine is busy, which is where at least two of the newest eight runs were too slow, that is their
        share. Otherwise it is how many of the last 1000 runs were late though the machine was not busy; of 200 where
        there were fewer. Of a spell of slow runs only the first two count, since after them a lower rung takes over.
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


def rarely_exceeded(values: Collection[float]) -> float:
    """What nine in ten of the values do not exceed, and where they are few all but the largest; there must be one."""
    return sorted(values)[9 * (len(values) - 1) // 10]
