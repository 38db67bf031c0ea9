"""The best labels that are ready in time: a deadline picks one of a ladder of warm networks for each frame."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from time import perf_counter

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.card import Card
from rtseg.core.closing import Claimed
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Frame, Labelled, picture_of
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size
from rtseg.core.threads import ThreadBudget
from rtseg.core.watchdog import watched_too
from rtseg.engines import EngineInfo
from rtseg.live.labeller import stalled
from rtseg.live.ladder import Ladder, Step
from rtseg.live.policies.deadline import Deadline
from rtseg.live.worker import Worker

_log = logging.getLogger(__name__)

_EACH = 4  # step between the rows and columns in which labels are compared

Run = tuple[Labelled, float, float]  # labels, and when their run began and ended, in seconds
"""The result of a rung's run on a frame."""


class Anytime(Claimed):
    """A `Labeller` that keeps its policy's deadline.

    Each frame is labelled in the background, by the rung that the policy chooses. `collect` waits no longer than the
    frame's time allows. If its labels are not ready, it returns those of the last labelled frame, marked `held`. The
    run goes on, and its labels are the next to be held. Until there are any, held labels are the ignore index
    everywhere.

    Args:
        ladder: opens the rungs.
        policy: the deadline; the pipeline uses it too.
        worker: runs a rung; by default in its own thread.
        clock: returns the time in seconds; the clock of `Frame.captured_at`.

    Example:
        >>> with Anytime(Ladder([RunSpec("icnet")]), Deadline(0.033)) as labeller:
        ...     report = Loop(source, labeller, draw=Painter()).run()
        ...     labels = labeller(frame)  # one picture: uint8 BGR (H, W, 3) -> uint8 (H, W)
    """

    def __init__(
        self,
        ladder: Ladder,
        policy: Deadline,
        *,
        worker: Worker[Run] | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        super().__init__("labeller")
        self.policy = policy
        self._ladder = ladder
        self._worker = worker or Worker()
        self._clock = clock
        self._steps: list[Step] = []
        self._waiting: tuple[Frame, bool] | None = None  # the submitted frame, and whether a rung was started on it
        self._running = 0, 0  # the rung, and the frame's index
        self._ended_at = 0.0  # when the last run ended
        self._last: tuple[np.ndarray, str, int] | None = None  # the newest labels, their rung, and their frame's index
        self._arrays = ArrayPool()
        self._numbers = count()  # numbers of the pictures passed to calls

    @property
    def card(self) -> Card:
        """The best network's card; the others know the same classes."""
        return self._steps[-1].segmenter.card if self._steps else self._ladder.card

    @property
    def labels(self) -> LabelSet:
        return self.card.labels

    @property
    def info(self) -> EngineInfo:
        """What the best rung runs on; `Labelled.rung` names the rung that labelled a frame."""
        if not self._steps:
            raise UsageError("no rung is loaded yet: call prepare(frame size) or submit a frame first")
        return self._steps[-1].segmenter.info

    @property
    def budget(self) -> ThreadBudget:
        return self._ladder.budget

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        """Loads and measures the ladder; one frame at a time, whatever is allowed."""
        if self._closed:
            raise EngineError("this labeller is closed: load another")
        if not self._steps:
            self._steps = self._ladder.open(frame_hw, self.policy.most_s)
            self.policy.start([step.rung for step in self._steps])
        return self.info

    def resize(self, image: np.ndarray) -> None:
        """Returns None: there is no single input size."""

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        """Starts a frame; if a rung is busy with an earlier one, waits for it as long as that is useful."""
        self.prepare(frame.size_hw)
        if self._waiting is not None:
            raise EngineError("a frame is in flight already: call collect() first")
        if self._worker.busy and self._worker.done_within(self._left(self.policy.latest_start(frame.captured_at))):
            self._take()
        rung = None
        if not self._worker.busy:
            rung = self.policy.choose(frame.index, frame.captured_at, self._clock())
        if rung is not None:
            self._running = rung, frame.index
            step = self._steps[rung]
            self._worker.start(watched_too(partial(self._label, step, frame), partial(stalled, step.segmenter)))
        self._waiting = frame, rung is not None

    def collect(self) -> Labelled:
        if self._waiting is None:
            raise EngineError("no frame is in flight: call submit() first")
        (frame, started), self._waiting = self._waiting, None
        if not self._worker.busy:
            return self._held(frame)
        came, over, made = self._clock(), self.policy.cutoff(frame.captured_at), None
        if self._worker.done_within(over - came):
            made, over = self._take(), self._ended_at
        labelled = made if made is not None and started else self._held(frame)
        self.policy.handed(self._clock() - max(came, over))
        return labelled

    def __call__(self, frame: np.ndarray | Frame) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> labels uint8 (H, W); the deadline runs from the call to its return.

        Calls are treated as the frames of one video. If nothing is ready in time, they return the last labels, or the
        ignore index everywhere if those have another size or there are none yet. The first call loads and measures the
        ladder before its deadline begins.

        Raises:
            UsageError: the picture has another dtype or shape, or a stream or another thread uses the labeller.
            EngineError: no network can be loaded, the labeller is closed, or a network failed.
        """
        image = picture_of(frame)
        self.claim()
        try:
            self.prepare((image.shape[0], image.shape[1]))
            kept = self._arrays.copy(image)  # a late network still reads it after this call has returned
            self.submit(Frame(kept, next(self._numbers), 0.0, self._clock()))
            labels = self.collect().labels
            now = self._clock()
            self.policy.shown(now, now)  # nothing is drawn
            return labels
        finally:
            self.release()

    def _left(self, until: float) -> float:
        return until - self._clock()

    def _label(self, step: Step, frame: Frame) -> Run:
        start = self._clock()
        step.segmenter.submit(frame)
        made = step.segmenter.collect()
        return made, start, self._clock()

    def _take(self) -> Labelled:
        """Takes the worker's labels, which are held from now on."""
        made, start, self._ended_at = self._worker.take()
        number, index = self._running
        self.policy.took(number, self._ended_at - start)
        rung = str(self._steps[number].rung)
        self._compare(made.labels, rung, index)
        self._last = self._arrays.copy(made.labels), rung, index  # the caller may write into its labels
        return replace(made, rung=rung)

    def _compare(self, labels: np.ndarray, rung: str, index: int) -> None:
        """Tells the policy how many labels change per frame, measured on a part of the pixels: a tenth of a ms."""
        if self._last is None:
            return
        before, by, earlier = self._last
        if by == rung and index > earlier and before.shape == labels.shape:
            different = float((before[::_EACH, ::_EACH] != labels[::_EACH, ::_EACH]).mean())
            self.policy.changed(different / (index - earlier))

    def _held(self, frame: Frame) -> Labelled:
        labels, rung, _ = self._last or (None, "", 0)
        if labels is None or labels.shape != frame.size_hw:
            return Labelled(np.full(frame.size_hw, self.labels.ignore_index, np.uint8), {}, held=True)
        return Labelled(self._arrays.copy(labels), {}, rung=rung, held=True)

    def discard(self) -> None:
        self._waiting = None
        if self._worker.busy:
            self._worker.done_within(None)
            try:
                self._take()
            except Exception as error:  # of any kind: the caller reports why it gave up
                _log.debug("a frame that nobody waits for failed: %s", error)
        self._last = None  # another video may follow

    def _free(self) -> None:
        self._worker.close()
        for step in self._steps:
            step.segmenter.close()
