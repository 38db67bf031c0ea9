"""What each rung of a ladder will take on a machine that is not always as fast as when it was measured."""

from collections import deque
from collections.abc import Collection, Sequence
from statistics import median

_HISTORY = 300  # runs: of the slow ones 1 % are left out, and a busy spell is remembered for ten seconds at 30 fps
_NEWEST = 8  # runs, of which the slowest counts in full: a machine that gets busy is believed at once


class Costs:
    """Predicts the seconds of every rung from what the last runs took, whichever rung ran.

    A busy machine slows all rungs by about the same factor, so one history of `took / measured` serves all. A rung's
    p99 is its measured time, times the 0.99 quantile of the last 300 factors or the largest of the last 8.

    Args:
        measured_s: seconds of each rung on this machine, rung 0 first; not empty.
        factors: `took / measured` of the runs that these were measured by.
    """

    def __init__(self, measured_s: Sequence[float], factors: Sequence[float] = ()) -> None:
        self.measured_s = tuple(measured_s)
        self._factors = deque(factors or (1.0,), maxlen=_HISTORY)
        self._update()

    def __len__(self) -> int:
        return len(self.measured_s)

    def took(self, rung: int, seconds: float) -> None:
        """Counts a run."""
        self._factors.append(seconds / self.measured_s[rung])
        self._update()

    def _update(self) -> None:
        newest = list(self._factors)[-_NEWEST:]
        self._usual = median(newest)
        self._slow = max(*newest, hardly_exceeded(self._factors))

    def usual_s(self, rung: int) -> float:
        """What the rung takes now, in the median."""
        return self.measured_s[rung] * self._usual

    def p99_s(self, rung: int) -> float:
        """What it will hardly exceed."""
        return self.measured_s[rung] * self._slow


def hardly_exceeded(values: Collection[float]) -> float:
    """The largest of the values but for the top hundredth, and but for one where they are few; there must be one."""
    ordered = sorted(values)
    return ordered[max(0, len(ordered) - 1 - max(1, len(ordered) // 100))]
