"""Writes the frames of a loop to its sinks, in its own thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np

from rtseg.core.channel import Channel, ThreadGroup
from rtseg.core.errors import OutputError
from rtseg.core.watchdog import MOST_S, Watchdog, thread_clock
from rtseg.live.pipeline import Result
from rtseg.live.report import LoopStats
from rtseg.sinks.base import Sink

_WRITE_S = 30.0  # at most, without progress on the two or three frames in flight to a sink
_LOOK_S, _BUSY_S = 1.0, 0.05
_STALLED = "is the disk or network folder stalled?"


def _stalled() -> OutputError:
    return OutputError(f"nothing could be written for {MOST_S:.0f} s: {_STALLED}")


@dataclass(frozen=True)
class Job:
    """A frame to write.

    Attributes:
        result: the labelled frame.
        picture: uint8 BGR (H, W, 3), the drawn frame.
        sinks: where it goes.
        timely: whether its latency counts.
    """

    result: Result
    picture: np.ndarray
    sinks: tuple[Sink, ...]
    timely: bool


class Writer:
    """Writes frames in order; `write` blocks while two frames wait.

    Args:
        stats: collect the seconds of the stage 'write'; their `frames` show progress.
        done: called for each frame that was written, with whether its latency counts.
    """

    def __init__(self, stats: LoopStats, done: Callable[[Result, bool], None]) -> None:
        self._stats = stats
        self._done = done
        self._jobs: Channel[Job | Sink] = Channel(2)
        self._threads = ThreadGroup()
        self._threads.watch(self._jobs)
        self._watchdog = Watchdog(self._threads)

    @property
    def error(self) -> BaseException | None:
        """The error that writing failed with, if any."""
        return self._threads.error

    def start(self) -> None:
        self._threads.start("writer", self._run)
        self._watchdog.start()

    def write(self, job: Job) -> None:
        self._jobs.put(job)

    def close_sink(self, sink: Sink) -> None:
        """Closes a sink once its frames in flight are written."""
        self._jobs.put(sink)

    def finish(self, sinks: Sequence[Sink], complete: bool) -> None:
        """Writes the frames in flight, closes every sink, and raises the first error."""
        self._jobs.close()
        self._watchdog.close()
        if not self._written():  # closing a sink while it is written to could crash the process
            raise self.error or OutputError(f"writing did not end within {_WRITE_S:.0f} s: {_STALLED}")
        failed = self.error
        for sink in sinks:
            try:
                sink.close(complete=complete and failed is None)
            except BaseException as error:
                failed = failed or error
        if complete and failed is not None:
            raise failed

    def _run(self) -> None:
        used = thread_clock()
        while True:
            job = self._jobs.get()
            if job is not None:
                with self._watchdog.call(_stalled, used):  # a huge picture is slow, but this thread computes
                    self._do(job)

    def _do(self, job: Job | Sink) -> None:
        """Writes a frame, or closes a sink that was removed."""
        if isinstance(job, Sink):
            job.close()
            return
        with self._stats.stages["write"].measure():
            for sink in job.sinks:
                sink.write_sure(job.result.frame, job.result.labels, job.picture, job.result.confidence)
        self._done(job.result, job.timely)

    def _written(self) -> bool:
        """Waits for the thread; False if it made no progress for `_WRITE_S`, or was late before."""
        if self._watchdog.late:
            return self._threads.join(_LOOK_S, tell=False)
        before, since = -1.0, perf_counter()
        while not self._threads.join(min(_WRITE_S, _LOOK_S), tell=False):
            progress = self._stats.frames + process_time()  # a huge picture is slow, but the processor is busy
            if progress >= before + _BUSY_S:
                before, since = progress, perf_counter()
            if perf_counter() - since >= _WRITE_S:
                return False
        return True
