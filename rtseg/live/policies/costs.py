"""What each rung of a ladder will take on a machine that is not always as fast as when it was measured."""

from collections.abc import Sequence

import numpy as np

_RUNS, _FADING = 30, 6.0  # runs that are remembered, and after how many more a run counts for 1/e
_NEWEST = 8  # runs, of which the median is what is usual
_WEIGHTS = np.exp(-np.arange(_RUNS)[::-1] / _FADING)
_WEIGHTS /= _WEIGHTS.sum()


class Costs:
    """Predicts the seconds of every rung from what the last runs took, whichever rung ran.

    A busy machine slows all rungs by about the same factor, so one history of `took / measured` serves all.

    Args:
        measured_s: seconds of each rung on this machine, rung 0 first; not empty.
        factors: `took / measured` of the runs that these were measured by.
    """

    def __init__(self, measured_s: Sequence[float], factors: Sequence[float] = ()) -> None:
        self._measured_s = np.array(measured_s, np.float64)
        self._factors = np.full(_RUNS, np.median(factors or [1.0]))  # not their worst: caches were cold then

    def __len__(self) -> int:
        return len(self._measured_s)

    def took(self, rung: int, seconds: float) -> None:
        """Counts a run."""
        self._factors = np.append(self._factors[1:], seconds / self._measured_s[rung])

    def usual_s(self) -> np.ndarray:
        """What each rung takes now, in the median: float64 (rungs,)."""
        return self._measured_s * float(np.median(self._factors[-_NEWEST:]))

    def late(self, left_s: float | np.ndarray) -> np.ndarray:
        """The share of runs, 0 to 1, that would not end in `left_s`, (...): float64 (..., rungs).

        Of the last 30 runs the k-th newest, from 0, weighs exp(-k / 6): how slow a machine is now says much about the
        next run and little about the one ten later.
        """
        by_factor = np.argsort(self._factors)
        slower = np.append(np.cumsum(_WEIGHTS[by_factor][::-1])[::-1], 0.0)  # share of each factor and those above it
        most = np.asarray(left_s)[..., None] / self._measured_s
        late: np.ndarray = slower[np.searchsorted(self._factors[by_factor], most, side="right")]
        return late
