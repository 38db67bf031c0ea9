"""Capture and inference in their own threads, joined by bounded channels; labelled frames come out in order."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Lock, Thread
from time import perf_counter, sleep
from types import TracebackType
from typing import Any, Self

import numpy as np

from rtseg.core.card import Card
from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.engines import EngineInfo
from rtseg.live.policy import Channel, Ended
from rtseg.live.segmenter import Segmenter
from rtseg.sources.base import Source

_log = logging.getLogger(__name__)
_JOIN_S = 5.0  # one slow inference may be in flight; it is not stopped by force


@dataclass(frozen=True)
class Result:
    """A labelled frame.

    Attributes:
        frame: as the source gave it; unless the source is live, `captured_at` is when the pipeline took it.
        labels: uint8 (H, W), the frame's own size, owned by this result.
        card: the network that made the labels.
        info: the engine that ran it.
        stages_s: seconds in 'capture', 'resize', 'engine' and, unless the engine does it, 'upsample'.
    """

    frame: Frame
    labels: np.ndarray
    card: Card
    info: EngineInfo
    stages_s: dict[str, float]


@dataclass(frozen=True)
class _Captured:
    """A frame, and the network's input where it is made already."""

    frame: Frame
    resized: np.ndarray | None
    stages_s: dict[str, float]


class ThreadGroup:
    """Threads of which the first that fails ends all."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._channels: list[Channel[Any]] = []
        self._threads: list[Thread] = []
        self._lock = Lock()

    def watch(self, *channels: Channel[Any]) -> None:
        """Channels that a failure aborts, which wakes and ends the threads at both ends."""
        self._channels.extend(channels)

    def start(self, name: str, work: Callable[[], None], ends: Channel[Any] | None = None) -> None:
        """Runs `work` until it returns or a channel ends; then closes the channel that it filled, `ends`."""

        def guarded() -> None:
            try:
                work()
            except Ended:
                pass
            except BaseException as error:
                self.fail(error)
            if ends is not None:
                ends.close()

        # daemon: a camera driver that never returns must not keep the process alive
        thread = Thread(target=guarded, name=f"rtseg-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def fail(self, error: BaseException) -> None:
        """Keeps the first error and ends every thread."""
        with self._lock:
            self.error = self.error or error
        self.abort()

    def abort(self) -> None:
        for channel in self._channels:
            channel.abort()

    def join(self, timeout_s: float, tell: bool = True) -> bool:
        """Waits for the threads; False where one is stuck in a foreign call, which is logged."""
        deadline = perf_counter() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - perf_counter()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if stuck and tell:
            _log.warning("still busy after %.0f s: %s", timeout_s, ", ".join(stuck))
        return not stuck


class Pipeline:
    """Labels the frames of a source; capture and inference overlap, and both overlap the caller's own work.

    A live source keeps only its newest frame and counts what it drops; any other source waits, loses nothing
    and keeps its order. An error in either thread comes out of `take` as it was raised. Leaving the block ends
    both threads and closes the source; the segmenter stays open.

    Args:
        source: what to read.
        segmenter: what labels it; used by this pipeline alone inside the block.
        pace: read no faster than the source's fps (a video that is watched).

    Example:
        >>> with Pipeline(source, segmenter) as pipeline:
        ...     for result in pipeline: ...
    """

    def __init__(self, source: Source, segmenter: Segmenter, *, pace: bool = False) -> None:
        self._source = source
        self._segmenter = segmenter
        self._asked: deque[Callable[[], Segmenter]] = deque()  # for; append and popleft are atomic
        self._interval_s = 1 / source.fps if pace and source.fps and not source.live else 0.0
        self._frames: Channel[_Captured] = Channel(1 if source.live else 2, newest=source.live)
        self._results: Channel[Result] = Channel(1 if source.live else 2)
        self._stopping = False
        self.crew = ThreadGroup()
        self.crew.watch(self._frames, self._results)

    @property
    def drops(self) -> int:
        """Frames that a live source delivered and nobody saw."""
        return self._frames.dropped

    def take(self, timeout_s: float | None = None) -> Result | None:
        """The next labelled frame; None where none came in time.

        Raises:
            Ended: the source has ended.
            Exception: what a thread died of.
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

    def change_segmenter(self, make: Callable[[], Segmenter]) -> None:
        """From the next frame on uses `make()`, called in the inference thread; the old one is closed."""
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
            if not self._source.live:  # it was waiting, read ahead: nothing happened yet that could be late
                frame = replace(frame, captured_at=perf_counter())
            if not self._frames.put(self._captured(frame, start)):
                return

    def _captured(self, frame: Frame, start: float) -> _Captured:
        """Resizes here, beside the inference of the frame before; not what a live source may have to drop."""
        read = perf_counter()
        resized = None if self._source.live else self._segmenter.resize(frame.image)
        stages_s = {"capture": read - start}
        if resized is not None:
            stages_s["resize"] = perf_counter() - read
        return _Captured(frame, resized, stages_s)

    def _wait(self, due: float) -> float:
        """Sleeps until `due`; returns when the next frame is due, without catching up on lost time."""
        while not self._stopping and (left := due - perf_counter()) > 0:
            sleep(min(left, 0.05))
        return max(due, perf_counter() - self._interval_s) + self._interval_s

    def _infer(self) -> None:
        try:
            self._label()
        finally:
            self._segmenter.discard()

    def _label(self) -> None:
        """Keeps as many frames in flight as the engine takes, and hands their labels over in order."""
        under_way: deque[_Captured] = deque()
        ended = False
        while not ended or under_way:
            if not ended and self._has_room(len(under_way)):
                try:
                    captured = self._frames.get(0.0 if under_way else None)
                except Ended:
                    ended = True
                    continue
                if captured is not None:
                    self._change()
                    self._submit(captured)
                    under_way.append(captured)
                    continue
            if not self._results.put(self._collect(under_way.popleft())):
                return

    def _has_room(self, under_way: int) -> bool:
        if under_way == 0:
            return True
        # a live frame must not age behind another; a segmenter that is to be changed is emptied first
        return not self._source.live and not self._asked and under_way < self._segmenter.info.in_flight

    def _change(self) -> None:
        while self._asked and not self._segmenter.busy:
            self._segmenter.close()
            segmenter = self._asked.popleft()()
            segmenter.claim()
            self._segmenter = segmenter

    def _submit(self, captured: _Captured) -> None:
        if not self._segmenter.loaded:
            self._segmenter.prepare(captured.frame.size_hw, ahead=not self._source.live)
        self._segmenter.submit(captured.frame, captured.resized)

    def _collect(self, captured: _Captured) -> Result:
        segmenter = self._segmenter
        labels = segmenter.collect()
        stages_s = {**segmenter.stages_s, **captured.stages_s}
        return Result(captured.frame, labels, segmenter.card, segmenter.info, stages_s)

    def __enter__(self) -> Self:
        try:
            self._segmenter.claim()
        except UsageError:
            self._source.close()
            raise
        self.crew.start("capture", self._capture, self._frames)
        self.crew.start("inference", self._infer, self._results)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self.crew.abort()
        self._source.interrupt()
        # A source that is closed while a thread still reads it may end the process: then it is left open.
        if self.crew.join(_JOIN_S):
            self._segmenter.release()
            self._source.close()
