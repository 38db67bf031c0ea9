"""A deadline for every frame, from its capture until its picture is shown, and the rung that keeps it."""

from collections import deque
from collections.abc import Sequence
from math import isfinite
from statistics import median

from rtseg.core.errors import UsageError
from rtseg.live.policies.costs import Costs, hardly_exceeded
from rtseg.live.rung import Rung

_RECENT = 100  # frames, of which drawing is remembered
_FIRST_DRAWING = 0.2  # of the deadline, until a picture was drawn
_CALM = 30  # frames that a better rung must have fitted before it is taken
_BUSY = 0.95  # of the time between two frames: handing over takes the rest
_FIRST_CHANGE, _NEW = 0.02, 0.05  # labels that change from frame to frame, and how fast that is learned
_SLOWEST = 3.0  # times between two frames: what takes longer is not loaded
_TO_SPARE = 1.03  # times the p99 of a better rung
_FRAMES_PER_MISS = 2000  # that earn one: the promise is one in a thousand
_MOST_CREDIT, _MOST_DEBT = 1.0, -1.0  # misses
_STARVED_S = 0.5  # where nothing can be in time, a picture is shown this often all the same


class Deadline:
    """The policy that keeps a deadline: for each frame the best rung of a ladder that is ready in time.

    A rung fits if its predicted p99 is no more than what is left of the frame's time once drawing is paid for. The best
    is the one with the highest score, less what labels lose by their age where a rung does not keep up with the source
    and only each n-th frame gets labels of its own: score (1 - c (n - 1)), c the share of the picture whose label
    changes from one frame to the next. The age is (n - 1) / 2 frames in the mean, and a changed pixel counts twice,
    since it is small things that move out of their labels first.

    The first frame for which a rung no longer fits is labelled by a lower one. A higher one is taken when it has
    fitted, with a little to spare, for 30 frames in a row, and only while misses are rare: 2000 frames earn one, and
    where more were missed than earned the rung stays where it is.

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
        self.deadline_s = deadline_s
        self.rungs: tuple[Rung, ...] = ()
        self._costs: Costs | None = None
        self._level = 0
        self._calm, self._credit = 0, _MOST_CREDIT
        self._change = _FIRST_CHANGE
        self._drawing: deque[float] = deque(maxlen=_RECENT)  # seconds from labels to picture shown
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

    def start(self, rungs: Sequence[Rung], factors: Sequence[float] = ()) -> None:
        """Takes the rungs that there are, fastest (and worst) first, and the factors that `Costs` takes."""
        self.rungs = tuple(rungs)
        self._costs = Costs([rung.seconds for rung in rungs], factors)
        self._level = self._best()

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
        return self.cutoff(captured_at) - self.costs.usual_s(0)

    def choose(self, index: int, captured_at: float, now: float) -> int | None:
        """The rung for a frame; None where none is likely to be ready, and waiting for the next frame is better.

        Where the fastest will usually be ready it is tried. So it is where it would not be for a frame that has just
        come either: then its labels serve the next.
        """
        self._arrived(index, captured_at, now)
        self._change_level()
        left = self.cutoff(captured_at) - now
        for rung in range(self._level, -1, -1):
            if self.costs.p99_s(rung) <= left:
                return rung
        return None if left < self.costs.usual_s(0) <= self.deadline_s - self.drawing_s else 0

    def took(self, rung: int, seconds: float) -> None:
        """Counts a run of a rung, in time or not."""
        self.costs.took(rung, seconds)

    def missed(self) -> None:
        """Counts a frame whose labels were not ready though its rung was to be; not while everything is still cold."""
        if len(self._ages) == _CALM:
            self._credit = max(self._credit - 1, _MOST_DEBT)

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
        """What drawing and showing will hardly exceed: a tenth more than the second longest of the last 100."""
        return 1.1 * hardly_exceeded(self._drawing) if self._drawing else _FIRST_DRAWING * self.deadline_s

    # Which rung is right for a frame that has just come

    def _arrived(self, index: int, captured_at: float, now: float) -> None:
        if self._before is not None and index > self._before[0]:
            self._intervals.append((captured_at - self._before[1]) / (index - self._before[0]))
        self._before = index, captured_at
        self._ages.append(now - captured_at)

    def _fits(self, rung: int, margin: float = 1.0) -> bool:
        age = median(self._ages) if self._ages else 0.0
        return margin * self.costs.p99_s(rung) <= self.deadline_s - self.drawing_s - age

    def _worth(self, rung: int) -> float:
        """The score of the labels that are on show, in the mean."""
        frames = self.costs.usual_s(rung) / (_BUSY * median(self._intervals)) if self._intervals else 1.0
        return self.rungs[rung].score * (1 - self._change * (max(1.0, frames) - 1))

    def _best(self, margin: float = 1.0) -> int:
        return max((rung for rung in range(len(self.costs)) if self._fits(rung, margin)), key=self._worth, default=0)

    def _change_level(self) -> None:
        """Down at once; up after a calm, unless too many frames were missed lately."""
        self._credit = min(self._credit + 1 / _FRAMES_PER_MISS, _MOST_CREDIT)
        self._level = min(self._level, self._best())
        higher = self._best(_TO_SPARE)
        self._calm = self._calm + 1 if higher > self._level else 0
        if self._calm >= _CALM and self._credit >= 0:
            self._level, self._calm = higher, 0
