"""A deadline for every frame, from its capture until its picture is shown, and the rung that keeps it."""

from collections import deque
from collections.abc import Sequence
from math import isfinite
from statistics import median

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.live.policies.base import Policy
from rtseg.live.policies.costs import Costs
from rtseg.live.rung import Rung

_DRAWN, _FRAMES = 100, 30  # pictures of which drawing is remembered, and frames of which age and interval are
_FIRST_DRAWING = 0.2  # of the deadline, until a picture was drawn
_FIRST_CHANGE, _NEW = 0.02, 0.05  # labels that change from frame to frame, and how fast that is learned
_SLOWEST = 3.0  # times between two frames: what takes longer is not loaded
_MISS = 0.1  # of mIoU: what a picture that has labels of an earlier frame loses beside what these are worth less
_MOST_LATE = 4  # frames by which a run is expected to be late at most
_STARVED_S = 0.5  # where nothing can be in time, a picture is shown this often all the same


class Deadline(Policy):
    """The policy that keeps a deadline: for each frame the rung of a ladder that is worth most in the time it has.

    A rung that is ready in time is worth its score s. Where it is n frames late, so many pictures have labels that are
    older: it is worth

        v = s (1 - 2c n) - 0.1 n,

    c the share of the picture whose label changes from one frame to the next. A changed pixel counts twice, since it is
    small things that move out of their labels first. For n stands what is to be expected in what is left of the frame's
    time once drawing is paid for.

    A slow rung also takes time from the next frame. So each frame gets the rung that is worth most together with the
    best that its run leaves for the next frame: one that does not keep up with the source is taken while there is time
    to spare, and a faster one between catches up.

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
        self._change = _FIRST_CHANGE
        self._drawing: deque[float] = deque(maxlen=_DRAWN)  # seconds from labels to picture shown
        self._ages: deque[float] = deque(maxlen=_FRAMES)  # of frames when their rung was chosen
        self._intervals: deque[float] = deque(maxlen=_FRAMES)
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

    def start(self, rungs: Sequence[Rung], factors: Sequence[float] = ()) -> None:
        """Takes the rungs that there are, fastest (and worst) first, and the factors that `Costs` takes."""
        self.rungs = tuple(rungs)
        self._scores = np.array([rung.score for rung in rungs])
        self._costs = Costs([rung.seconds for rung in rungs], factors)

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

        Where the fastest would not usually be ready for a frame that has just come either, one is started all the same:
        its labels serve the next.
        """
        self._arrived(index, captured_at, now)
        left_s, fresh_s, usual_s = self.cutoff(captured_at) - now, self._fresh_s, self.costs.usual_s()
        if left_s < usual_s[0] <= fresh_s:
            return None
        next_left_s = np.minimum(fresh_s, left_s - usual_s + self._interval_s)
        return int((self._values(left_s) + self._values(next_left_s).max(axis=1)).argmax())

    def took(self, rung: int, seconds: float) -> None:
        """Counts a run of a rung, in time or not."""
        self.costs.took(rung, seconds)

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
        """What three in four of the last 100 pictures did not exceed from their labels until they were shown.

        To allow for the slowest would cost more frames their labels than it saves pictures from being late.
        """
        seconds = sorted(self._drawing) or [_FIRST_DRAWING * self.deadline_s]
        return seconds[3 * (len(seconds) - 1) // 4]

    # Which rung is right for a frame

    def _arrived(self, index: int, captured_at: float, now: float) -> None:
        if self._before is not None and index > self._before[0]:
            self._intervals.append((captured_at - self._before[1]) / (index - self._before[0]))
        self._before = index, captured_at
        self._ages.append(now - captured_at)

    @property
    def _fresh_s(self) -> float:
        """What a frame has left that waited for none before it."""
        return self.deadline_s - self.drawing_s - min(self._ages)

    @property
    def _interval_s(self) -> float:
        return median(self._intervals) if self._intervals else self.deadline_s

    def _values(self, left_s: float | np.ndarray) -> np.ndarray:
        """What each rung is worth if so much time is left, (...): float64 (..., rungs)."""
        until_s = np.asarray(left_s)[..., None] + self._interval_s * np.arange(_MOST_LATE)
        frames_late = self.costs.late(until_s).sum(axis=-2)
        values: np.ndarray = self._scores * (1 - 2 * self._change * frames_late) - _MISS * frames_late
        return values
