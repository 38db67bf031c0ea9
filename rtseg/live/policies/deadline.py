"""A deadline for every frame, from its capture until its picture is shown, and the rung that keeps it."""

from collections import deque
from collections.abc import Sequence
from math import inf, isfinite
from statistics import median

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.live.policies.base import Policy
from rtseg.live.policies.costs import Costs, rarely_exceeded
from rtseg.live.rung import Rung

_RECENT = 100  # frames, of which handing over and drawing are remembered
_FIRST_DRAWING = 0.2  # of the deadline, until a picture was drawn
_CALM = 30  # frames that a better rung must have fitted before it is taken
_BUSY = 0.95  # of the time between two frames: handing over takes the rest
_FIRST_CHANGE, _NEW = 0.02, 0.05  # labels that change from frame to frame, and how fast that is learned
_SLOWEST = 3.0  # times between two frames: what takes longer is not loaded
_MISS, _MORE = 10.0, 0.2  # what misses cost: one picture in a thousand a point of mIoU; but where two in a hundred miss
_KEPT = 0.02  # it, the deadline is not kept anyway, and ten more in a hundred cost two points
_STARVED_S = 0.5  # where nothing can be in time, a picture is shown this often all the same


class Deadline(Policy):
    """The policy that keeps a deadline: for each frame the rung of a ladder that is worth most in the time it has.

    A rung is worth its score, less what labels lose by their age where it does not keep up with the source and only
    each n-th frame gets labels of its own: score (1 - c (n - 1)), c the share of the picture whose label changes from
    one frame to the next. The age is (n - 1) / 2 frames in the mean, and a changed pixel counts twice, since it is
    small things that move out of their labels first. From that goes what its misses cost: 10 times the share of runs
    that would not be ready in what is left of the frame's time once drawing is paid for, and a fifth of what this share
    has above 2 %: the deadline is not kept then, and held labels are not much worse. So a slow run that no rung would
    have survived speaks against none of them, and one that costs only the best rungs speaks against those.

    The first frame for which a lower rung is worth more gets it. A higher one is taken when it has been worth more
    for 30 frames in a row.

    A file is read at its own rate, as a camera would give it. A few frames may wait: of those whose time runs out the
    picture is shown with older labels, and none is shown late.

    Args:
        deadline_s: seconds from a frame's capture until its picture is shown.

    Attributes:
        rungs: what it chooses from, fastest first; none until its labeller is prepared.

    Raises:
        UsageError: it is no positive number.
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
        self._handing: deque[float] = deque(maxlen=_RECENT)  # seconds from the end of a run, or of the wait, to labels
        self._drawing: deque[float] = deque(maxlen=_RECENT)  # and from labels to picture shown
        self._ages: deque[float] = deque(maxlen=_CALM)  # of frames when their rung was chosen
        self._intervals: deque[float] = deque(maxlen=_CALM)
        self._before: tuple[int, float] | None = None
        self._shown_at: float | None = None

    def expect(self, fps: float | None) -> None:
        """How many frames a second are to come, where that is known, before the first does."""
        self._intervals.extend([1 / fps] if fps else [])

    @property
    def most_s(self) -> float:
        """The longest time that a rung may take to be worth loading."""
        return min([self.deadline_s, *(_SLOWEST * interval for interval in self._intervals)])

    # What the labeller tells and asks

    def start(self, rungs: Sequence[Rung]) -> None:
        """Takes the rungs that there are, fastest (and worst) first."""
        self.rungs = tuple(rungs)
        self._scores = np.array([rung.score for rung in rungs])
        self._costs = Costs([rung.seconds for rung in rungs])
        self._level = self._best(self._fresh_s)

    @property
    def costs(self) -> Costs:
        """What the rungs take."""
        if self._costs is None:
            raise UsageError("this deadline has no rungs yet: give it to a labeller and prepare that")
        return self._costs

    def cutoff(self, captured_at: float) -> float:
        """When the labels of a frame must be there, so that its picture can be drawn in time."""
        return captured_at + self.deadline_s - self.drawing_s

    def latest_start(self, captured_at: float) -> float:
        """Until when it is worth starting the fastest rung on a frame."""
        return self.cutoff(captured_at) - float(self.costs.usual_s()[0])

    def choose(self, index: int, captured_at: float, now: float) -> int | None:
        """The rung for a frame; None where none is likely to be ready, and waiting for the next frame is better.

        Where the fastest will usually be ready it is tried. So it is where it would not be for a frame that has just
        come either: then its labels serve the next.
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
        """Counts a run of a rung, in time or not."""
        self.costs.took(rung, seconds)

    def handed(self, seconds: float) -> None:
        """Counts what it took to hand labels over once a run had ended, or the wait for it."""
        self._handing.append(seconds)

    def changed(self, share: float) -> None:
        """Counts which share of the labels, 0 to 1, is another than one frame before."""
        self._change += _NEW * (share - self._change)

    # What the loop tells and asks

    def expired(self, captured_at: float, now: float) -> bool:
        """Whether a frame is late before it is drawn, so that it is not shown; a starved view is shown some."""
        starved = self._shown_at is None or now - self._shown_at > _STARVED_S
        return now - captured_at > self.deadline_s and not starved

    def shown(self, labelled_at: float, now: float) -> None:
        """Counts a picture that is shown, and what it took since its labels were handed over."""
        self._drawing.append(now - labelled_at)
        self._shown_at = now

    @property
    def drawing_s(self) -> float:
        """What the way to the screen rarely exceeds: a tenth more than nine in ten of the last 100 took, each part."""
        handing_s = rarely_exceeded(self._handing) if self._handing else 0.0
        return 1.1 * (handing_s + rarely_exceeded(self._drawing)) if self._drawing else _FIRST_DRAWING * self.deadline_s

    # Which rung is right for a frame that has just come

    def _arrived(self, index: int, captured_at: float, now: float) -> None:
        if self._before is not None and index > self._before[0]:
            self._intervals.append((captured_at - self._before[1]) / (index - self._before[0]))
        self._before = index, captured_at
        self._ages.append(now - captured_at)

    @property
    def _fresh_s(self) -> float:
        """What a frame that has just come has left, as it usually comes."""
        return self.deadline_s - self.drawing_s - (median(self._ages) if self._ages else 0.0)

    def _worth(self) -> np.ndarray:
        """The score of the labels that are on show, in the mean, by rung: float64 (rungs,)."""
        interval_s = _BUSY * median(self._intervals) if self._intervals else inf
        older = np.maximum(self.costs.usual_s() / interval_s, 1.0) - 1
        return self._scores * (1 - self._change * older)

    def _values(self, left_s: float) -> np.ndarray:
        """What each rung is worth if so much time is left, less what its misses cost: float64 (rungs,)."""
        late = self.costs.late(left_s)
        values: np.ndarray = self._worth() - _MISS * np.minimum(late, _KEPT) - _MORE * np.maximum(late - _KEPT, 0)
        return values

    def _best(self, left_s: float) -> int:
        """The rung that is worth most if so much time is left."""
        return int(self._values(left_s).argmax())

    def _change_level(self, best: int) -> None:
        """Down at once; up after a calm."""
        self._calm = self._calm + 1 if best > self._level else 0
        if best < self._level or self._calm >= _CALM:
            self._level, self._calm = best, 0
