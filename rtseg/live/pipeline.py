"""Capture and inference in their own threads, joined by bounded channels; labelled frames come out in order."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter, process_time, sleep
from types import TracebackType
from typing import Self

import numpy as np

from rtseg.core.card import Card
from rtseg.core.channel import Channel, Ended, ThreadGroup
from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.watchdog import Watchdog
from rtseg.engines import EngineInfo
from rtseg.live.labeller import Labeller, stalled
from rtseg.live.policies import Policy, policy_for
from rtseg.sources.base import Source

_JOIN_S = 5.0  # one slow inference may be in flight; it is not stopped by force
_COMPUTES_S = 0.5  # of processor time per second: above this, an engine is working and not hanging


@dataclass(frozen=True)
class Result:
    """A labelled frame.

    Attributes:
        frame: as the source returned it; `captured_at` is when the pipeline took it, unless the source is live.
        labels: uint8 (H, W), the frame's own size, owned by this result.
        card: the network that made the labels.
        info: the engine that ran it.
        stages_s: seconds in 'capture', 'resize', 'engine', 'upsample' (unless the engine does it), and any stages that
            labellers add.
        confidence: uint8 (H, W), 0 to 255, how sure the network is of each pixel; None if it was not asked for.
        exit: the exit where the network stopped; '' if it has no early exits.
        labelled_at: `time.perf_counter()` when the labels were handed over.
        rung: the rung of the ladder that made the labels; '' if there is no ladder.
        held: these are the labels of an earlier frame, because this frame's were not ready in time.
    """

    frame: Frame
    labels: np.ndarray
    card: Card
    info: EngineInfo
    stages_s: dict[str, float]
    confidence: np.ndarray | None = None
    exit: str = ""
    labelled_at: float = 0.0
    rung: str = ""
    held: bool = False


@dataclass(frozen=True)
class _Captured:
    """A frame, and the network's input if it is already made."""

    frame: Frame
    resized: np.ndarray | None
    stages_s: dict[str, float]


class Pipeline:
    """Labels the frames of a source. Capture and inference overlap with each other and with the caller's own work.

    `take` raises an error in either thread as it is. Leaving the block ends both threads and closes the source; the
    labeller stays open.

    Args:
        source: what to read.
        labeller: what labels it; inside the block only this pipeline may use it.
        policy: which frames are labelled, and how many at once; default: the labeller's policy, or the usual one for
            the source.
        pace: read no faster than the source's fps (for a video that somebody watches); some policies always do.

    Example:
        >>> with Pipeline(source, segmenter) as pipeline:
        ...     for result in pipeline: ...
    """

    def __init__(self, source: Source, labeller: Labeller, *, policy: Policy | None = None, pace: bool = False) -> None:
        self._source = source
        self._labeller = labeller
        self.policy = policy = policy or labeller.policy or policy_for(source)
        policy.expect(source.fps)
        self._asked: deque[Callable[[], Labeller]] = deque()  # labeller changes; append and popleft are atomic
        paced = (pace or policy.paced) and not source.live
        self._interval_s = 1 / source.fps if paced and source.fps else 0.0
        self._frames: Channel[_Captured] = Channel(policy.waiting, newest=policy.drops)
        self._results: Channel[Result] = Channel(policy.waiting)
        self._stopping = False
        self.crew = ThreadGroup()
        self.crew.watch(self._frames, self._results)
        self._watchdog = Watchdog(self.crew)

    @property
    def drops(self) -> int:
        """Frames that the source delivered but that were never labelled."""
        return self._frames.dropped

    def take(self, timeout_s: float | None = None) -> Result | None:
        """The next labelled frame; None if none came in time.

        Raises:
            Ended: the source has ended.
            Exception: the error that ended a thread.
        """
        try:
            return self._results.get(timeout_s)
        except Ended:
            if self.crew.error is not None:
                raise self.crew.error from None
            raise

    def __iter__(self) -> Iterator[Result]:
        while True:
            try:
                result = self.take()
            except Ended:
                return
            if result is not None:
                yield result

    def change_labeller(self, make: Callable[[], Labeller]) -> None:
        """Uses `make()` from the next frame on. The inference thread calls it; closing the old one delays no frame."""
        self._asked.append(make)

    def _capture(self) -> None:
        due = perf_counter()
        while not self._stopping:
            if self._interval_s:
                due = self._wait(due)
            start = perf_counter()
            frame = self._source.read()
            if frame is None:
                return
            if not self._source.live:  # it was read ahead, so its age starts now
                frame = replace(frame, captured_at=perf_counter())
            if not self._frames.put(self._captured(frame, start)):
                return

    def _captured(self, frame: Frame, start: float) -> _Captured:
        """Resizes here, in parallel with the inference of the frame before; not if the frame may still be dropped."""
        read = perf_counter()
        resized = None if self.policy.drops else self._labeller.resize(frame.image)
        stages_s = {"capture": read - start}
        if resized is not None:
            stages_s["resize"] = perf_counter() - read
        return _Captured(frame, resized, stages_s)

    def _wait(self, due: float) -> float:
        """Sleeps until `due`; returns when the next frame is due. Lost time is not caught up."""
        while not self._stopping and (left := due - perf_counter()) > 0:
            sleep(min(left, 0.05))
        return max(due, perf_counter() - self._interval_s) + self._interval_s

    def _infer(self) -> None:
        try:
            self._label()
        except Exception as error:
            self.crew.fail(error)  # at once: frames in flight may never finish
            raise
        finally:
            self._labeller.discard()

    def _label(self) -> None:
        """Keeps as many frames in flight as allowed and hands over their labels in order."""
        in_flight: deque[_Captured] = deque()
        ended = False
        while not ended or in_flight:
            if not ended and self._has_room(len(in_flight)):
                try:
                    captured = self._frames.get(0.0 if in_flight else None)
                except Ended:
                    ended = True
                    continue
                if captured is not None:
                    if not in_flight:
                        self._change()
                    self._submit(captured)
                    in_flight.append(captured)
                    continue
            if not self._results.put(self._collect(in_flight.popleft())):
                return

    def _has_room(self, in_flight: int) -> bool:
        """Whether another frame may start; before a labeller is changed, its frames must finish first."""
        if in_flight == 0:
            return True
        return not self._asked and in_flight < min(self._labeller.info.in_flight, self.policy.most_in_flight)

    def _change(self) -> None:
        while self._asked:
            labeller = self._asked.popleft()()
            labeller.claim()
            old, self._labeller = self._labeller, labeller
            old.release()
            self.crew.start("closer", old.close)

    def _submit(self, captured: _Captured) -> None:
        self._labeller.prepare(captured.frame.size_hw, self.policy.most_in_flight)
        with self._watched():
            self._labeller.submit(captured.frame, captured.resized)

    def _watched(self) -> AbstractContextManager[None]:
        """Watches a call of the labeller. On a CPU, a slow frame is excused while something computes: it may be huge.

        Live sources get no such excuse, since their decoding uses the processor whatever the engine does. On other
        devices processor time proves nothing, since drivers wait in busy loops.
        """
        labeller = self._labeller
        used = process_time if labeller.info.device == "CPU" and not self._source.live else None
        return self._watchdog.call(partial(stalled, labeller), used, _COMPUTES_S)

    def _collect(self, captured: _Captured) -> Result:
        labeller = self._labeller
        with self._watched():
            made = labeller.collect()
        stages_s = {**made.stages_s, **captured.stages_s}
        return Result(captured.frame, made.labels, labeller.card, labeller.info, stages_s, made.confidence, made.exit,
                      perf_counter(), made.rung, made.held)  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self._labeller.claim()
        except UsageError:
            self._source.close()
            raise
        self.crew.start("capture", self._capture, self._frames)
        self.crew.start("inference", self._infer, self._results)
        self._watchdog.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._watchdog.close()
        self.crew.abort()
        self._source.interrupt()
        # Closing a source while a thread still reads it may crash the process, so then it stays open.
        if self.crew.join(_JOIN_S, tell=not self._watchdog.late):
            self._labeller.release()
            self._source.close()
