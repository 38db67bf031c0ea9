"""A deadline for every frame, from capture until its picture is shown, kept by choosing the right rung."""

from collections import deque
from collections.abc import Sequence
from math import inf, isfinite
from statistics import median

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.live.policies.base import Policy
from rtseg.live.policies.costs import Costs, upper_quartile
from rtseg.live.rung import Rung

_RECENT = 100  # frames whose times for handing over and drawing are remembered
_FIRST_DRAWING = 0.2  # of the deadline, assumed until a picture was drawn
_CALM = 30  # frames for which a better rung must have been worth more before it is taken
_BUSY = 0.95  # of the time between two frames: the rest is for handing over
_FIRST_CHANGE, _NEW = 0.02, 0.05  # share of labels that change per frame at first, and how fast it is learned
_SLOWEST = 3.0  # frame intervals: rungs that take longer are not loaded
_MISS, _MORE = 6.0, 0.2  # cost of misses: one picture in 100 costs six points of mIoU. Beyond 3 in 100 the
_KEPT = 0.03  # deadline is not kept anyway, and 10 more in 100 cost only two points
_STARVED_S = 0.5  # if nothing can be in time, a picture is still shown this often


class Deadline(Policy):
    """The policy that keeps a deadline: for each frame it takes the rung worth most in the time left.

    A rung is worth its score, less what it loses because labels age and because it misses deadlines.

    Age: a rung that does not keep up with the source labels only each n-th frame, and its score becomes
    score (1 - c (n - 1)), with c the share of the picture whose label changes from one frame to the next. The mean age
    is (n - 1) / 2 frames, and a changed pixel counts twice, since small things move out of their labels first.

    Misses: let p be the share of runs that would not end in the time that a frame has left before drawing. They cost
    6 min(p, 0.03) + 0.2 max(p - 0.03, 0): above 3 % the deadline is not kept anyway, and held labels are not much
    worse. So a slow run that no rung would have survived counts against none of them, and one that only the best rungs
    would have missed counts against those.

    A lower rung is taken at the first frame for which it is worth more, a higher one after it has been worth more for
    30 frames in a row.

    A file is read at its own frame rate, as from a camera. A few frames may wait. If the time of a waiting frame runs
    out, its picture is shown with older labels; none is shown late.

    Args:
        deadline_s: seconds from a frame's capture until its picture is shown.

    Attributes:
        rungs: what it chooses from, fastest first; empty until its labeller is prepared.

    Raises:
        UsageError: `deadline_s` is not a positive number.
    """

    drops = True
    paced = True
    waiting = 4
    most_in_flight = 1

    def __init__(self, deadline_s: float) -> None:
        if not (isfinite(deadline_s) and deadline_s > 0):
            raise UsageError(f"a deadline of {deadline_s * 1e3:g} ms is not allowed: give more than 0, for example 33")
        self.deadline_s: float = deadline_s
        self._scores = np.empty(0)
        self._costs: Costs | None = None
        self._level = 0
        self._calm = 0
        self._change = _FIRST_CHANGE
        self._handing: deque[float] = deque(maxlen=_RECENT)  # seconds from the end of a run or wait to the labels
        self._drawing: deque[float] = deque(maxlen=_RECENT)  # and from labels to the shown picture
        self._ages: deque[float] = deque(maxlen=_CALM)  # of frames, when their rung was chosen
        self._intervals: deque[float] = deque(maxlen=_CALM)
        self._before: tuple[int, float] | None = None
        self._shown_at: float | None = None

    def expect(self, fps: float | None) -> None:
        """Sets the expected frames per second, if known; called before the first frame."""
        self._intervals.extend([1 / fps] if fps else [])

    @property
    def most_s(self) -> float:
        """The longest time in seconds that a rung may take to be worth loading."""
        return min([self.deadline_s, *(_SLOWEST * interval for interval in self._intervals)])

    # Called by the labeller

    def start(self, rungs: Sequence[Rung]) -> None:
        """Sets the rungs, fastest (and worst) first."""
        self.rungs = tuple(rungs)
        self._scores = np.array([rung.score for rung in rungs])
        self._costs = Costs([rung.seconds for rung in rungs])
        self._level = self._best(self._fresh_s)

    @property
    def costs(self) -> Costs:
        """Predicts how long the rungs take."""
        if self._costs is None:
            raise UsageError("this deadline has no rungs yet: give it to a labeller and prepare that")
        return self._costs

    def cutoff(self, captured_at: float) -> float:
        """When a frame's labels must be ready, so that its picture can be drawn in time."""
        return captured_at + self.deadline_s - self.drawing_s

    def latest_start(self, captured_at: float) -> float:
        """The latest time at which it is worth starting the fastest rung on a frame."""
        return self.cutoff(captured_at) - float(self.costs.usual_s()[0])

    def choose(self, index: int, captured_at: float, now: float) -> int | None:
        """The rung for a frame; None if none is likely to be ready and it is better to wait for the next frame.

        The fastest is tried if it will usually be ready. It is also tried if it would not even be ready for a frame
        that has just arrived: then its labels serve the next frame.
        """
        self._arrived(index, captured_at, now)
        left, fresh_s = self.cutoff(captured_at) - now, self._fresh_s
        values = self._values(fresh_s)
        self._change_level(int(values.argmax()))
        if left < fresh_s:
            values = self._values(left)
        rung, usual_s = int(values[: self._level + 1].argmax()), self.costs.usual_s()
        if usual_s[rung] <= left:
            return rung
        return None if left < usual_s[0] <= fresh_s else 0

    def took(self, rung: int, seconds: float) -> None:
        """Records a run of a rung, in time or not."""
        self.costs.took(rung, seconds)

    def handed(self, seconds: float) -> None:
        """Records how long handing over labels took after a run, or the wait for it, had ended."""
        self._handing.append(seconds)

    def changed(self, share: float) -> None:
        """Records the share of labels, 0 to 1, that differ from one frame before."""
        self._change += _NEW * (share - self._change)

    # Called by the loop

    def expired(self, captured_at: float, now: float) -> bool:
        """Whether a frame is late before it is drawn and is not shown; if none is in time, some are shown anyway."""
        starved = self._shown_at is None or now - self._shown_at > _STARVED_S
        return now - captured_at > self.deadline_s and not starved

    def shown(self, labelled_at: float, now: float) -> None:
        """Records a shown picture, and the time since its labels were handed over."""
        self._drawing.append(now - labelled_at)
        self._shown_at = now

    @property
    def drawing_s(self) -> float:
        """What three in four of the last 100 frames took at most for handing over labels, and for drawing.

        A larger margin would turn more frames that are just in time into held ones than it saves from being late.
        """
        handing_s = upper_quartile(self._handing) if self._handing else 0.0
        return handing_s + upper_quartile(self._drawing) if self._drawing else _FIRST_DRAWING * self.deadline_s

    # Which rung is best for a frame that has just arrived

    def _arrived(self, index: int, captured_at: float, now: float) -> None:
        if self._before is not None and index > self._before[0]:
            self._intervals.append((captured_at - self._before[1]) / (index - self._before[0]))
        self._before = index, captured_at
        self._ages.append(now - captured_at)

    @property
    def _fresh_s(self) -> float:
        """The time usually left for a frame that has just arrived, in seconds."""
        return self.deadline_s - self.drawing_s - (median(self._ages) if self._ages else 0.0)

    def _worth(self) -> np.ndarray:
        """The mean score of the labels on screen, by rung: float64 (rungs,)."""
        interval_s = _BUSY * median(self._intervals) if self._intervals else inf
        older = np.maximum(self.costs.usual_s() / interval_s, 1.0) - 1
        return self._scores * (1 - self._change * older)

    def _values(self, left_s: float) -> np.ndarray:
        """The value of each rung with this much time left, less the cost of its misses: float64 (rungs,)."""
        late = self.costs.late(left_s)
        values: np.ndarray = self._worth() - _MISS * np.minimum(late, _KEPT) - _MORE * np.maximum(late - _KEPT, 0)
        return values

    def _best(self, left_s: float) -> int:
        """The rung worth most with this much time left."""
        return int(self._values(left_s).argmax())

    def _change_level(self, best: int) -> None:
        """Goes down at once, and up only after a calm."""
        self._calm = self._calm + 1 if best > self._level else 0
        if best < self._level or self._calm >= _CALM:
            self._level, self._calm = best, 0
