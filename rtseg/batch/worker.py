"""Runs tasks: decodes, labels, draws and writes the segments of an input in one overlapped pass."""

from collections.abc import Callable
from time import perf_counter

import numpy as np

from rtseg.batch.segments import SegmentSink
from rtseg.batch.task import Event, Loaded, Progress, Task, TaskDone, TaskFailed
from rtseg.core.channel import any_stuck
from rtseg.core.runspec import RunSpec
from rtseg.live.labeller import Labeller
from rtseg.live.labellers.early import open_labeller
from rtseg.live.labellers.scoring import scored
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.pipeline import Result
from rtseg.live.policies import Every
from rtseg.pictures.resize import limit_threads
from rtseg.sources.span import PictureSpan, SpanSource, VideoSpan

_TELL_S = 0.2
_POLICY = Every()


class Worker:
    """Keeps its engine between tasks while the network and its input size stay the same.

    Args:
        announce: takes events; called in the writing thread and in that of `run`.
        poll: called often while a task runs, in the thread of `run`.
    """

    def __init__(self, announce: Callable[[Event], None], poll: Callable[[], None]) -> None:
        self._announce = announce
        self._poll = poll
        self._network: RunSpec | None = None
        self._segmenter: Labeller | None = None
        self._source: SpanSource | None = None
        self._finishing = False
        self._job = self._first = 0
        self._begun = 0
        self._told_at = perf_counter()

    def attempt(self, task: Task) -> None:
        """Runs a task; a failure is announced as an event."""
        try:
            self.run(task)
        except Exception as error:
            self._announce(TaskFailed.of(task, error))

    def run(self, task: Task) -> None:
        """Makes the task's segments, announces each and then the task's figures; raises errors."""
        segmenter = self._prepare(task)
        look = task.look
        painter = Painter(opacity=look.opacity, legend=look.legend, show=look.show, hud=False, unsure=look.unsure)
        labeller = scored(segmenter, steady=task.steady, confident=task.confident)  # each pass starts a new average
        self._job, self._first = task.job, task.span.first
        with self._open(task, segmenter.budget.codec) as source:
            self._source = source
            if self._finishing:
                source.finish()
            sink = SegmentSink(task, source, segmenter.card.labels, self._announce)
            try:
                loop = Loop(source, labeller, draw=_Draw(task, painter), sinks=[sink], view=self, policy=_POLICY)
                report = loop.run()
                sink.finish()
            finally:
                self._source, self._begun = None, 0
                if not any_stuck():  # a sink must not be closed while it is written to
                    sink.discard()
        self._announce(TaskDone(task.job, report.to_json()))

    def finish(self) -> None:
        """Ends the running task at the end of its segment, and later tasks after their first."""
        self._finishing = True
        if (source := self._source) is not None:
            source.finish()

    def _open(self, task: Task, threads: int) -> SpanSource:
        if task.pictures:
            return PictureSpan(str(task.source), task.pictures, task.span)
        return VideoSpan(task.source, task.span, threads=threads)

    def _prepare(self, task: Task) -> Labeller:
        network = task.network
        if self._segmenter is not None and network == self._network:
            return self._segmenter
        self.close()
        segmenter = open_labeller(network)
        limit_threads(segmenter.budget.opencv)
        try:
            info = segmenter.prepare(task.span.size_hw, _POLICY.most_in_flight)
        except BaseException:
            segmenter.close()
            raise
        self._segmenter, self._network = segmenter, network
        self._announce(Loaded(segmenter.card.name, info))
        return segmenter

    def show(self, loop: Loop, result: Result, picture: np.ndarray) -> None:
        """The loop's hook; counts frames."""
        self._begun += result.frame.index >= self._first

    def poll(self, loop: Loop) -> None:
        """The loop's hook; reports progress a few times a second."""
        if self._begun and perf_counter() - self._told_at > _TELL_S:
            self._announce(Progress(self._job, self._begun))
            self._begun, self._told_at = 0, perf_counter()
        self._poll()

    def close(self) -> None:
        """Frees the engine."""
        if self._segmenter is not None:
            self._segmenter.close()
        self._segmenter = self._network = None


class _Draw:
    """Draws only the frames that somebody will see."""

    def __init__(self, task: Task, painter: Painter) -> None:
        self._first = task.span.first
        self._always = "overlay" in task.save
        self._strip = task.strip
        self._painter = painter

    def __call__(self, result: Result, hud: list[str]) -> np.ndarray:
        if (self._always and result.frame.index >= self._first) or result.frame.index in self._strip:
            return self._painter(result, hud)
        return result.frame.image
