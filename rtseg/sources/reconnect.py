"""Reopens a live source that was lost: a camera that was unplugged, a stream whose server restarted."""

import logging
from collections.abc import Callable, Generator
from dataclasses import replace
from threading import Event
from time import perf_counter

from rtseg.core.errors import InputError
from rtseg.core.frame import Frame
from rtseg.core.machine import return_freed_memory
from rtseg.sources.base import Source
from rtseg.sources.late import Lateness
from rtseg.sources.prefetch import Prefetch

log = logging.getLogger(__name__)

_FIRST_S, _MOST_S = 0.1, 2.0  # wait between two attempts; it doubles each time
_SETTLED = 100  # frames after an outage until it is over


class ReconnectingSource(Source):
    """Reopens a live source when it fails or ends, and continues.

    Frame numbers continue, and timestamps continue by the wall clock. The size may change. Frames that were held up on
    their way, for example after a stall, are dropped once they are `most_late_s` late.

    Attributes:
        lost_at: `clock()` at the last frame while the source is lost; else None.
        outages: how often it was lost so far.
        late: frames that were dropped because they were too old.

    Example:
        >>> with ReconnectingSource(open_source(url), lambda: open_source(url, timeout_s=3.0)) as source: ...
    """

    def __init__(
        self, source: Source, open_again: Callable[[], Source], *, wait_s: float = 60.0, most_late_s: float = 1.0,
        clock: Callable[[], float] = perf_counter,
    ) -> None:  # fmt: skip
        """Takes over an open source.

        Args:
            source: the source, open and live.
            open_again: opens the same source; called on its own thread.
            wait_s: how long a source may stay lost; 0: the first loss ends it.
            most_late_s: how late a frame may be by its timestamp, compared with earlier frames.
            clock: returns seconds, on the clock of `Frame.captured_at`.
        """
        super().__init__(source.name)
        self.kind = source.kind  # type: ignore[misc] # a class variable of all others
        self.live, self.size_hw, self.fps = source.live, source.size_hw, source.fps
        self.frame_count, self.notes, self.pixel_aspect = source.frame_count, source.notes, source.pixel_aspect
        self.lost_at: float | None = None
        self.outages = self.late = 0
        self._source: Source | None = source
        self._open_again = open_again
        self._wait_s = wait_s
        self._clock = clock
        self._stopped = Event()
        self._opening: Prefetch[Source] | None = None
        self._reason: InputError | None = None
        self._pause_s = _FIRST_S
        self._lateness = Lateness(most_late_s)
        self._corrupt_before = 0
        self._last: Frame | None = None
        self._index_shift, self._time_shift_s = 0, 0.0
        self._joining = False  # the next frame is the first after an outage
        self._unsettled = 0  # frames until the effects of an outage are over

    def _frames(self) -> Generator[Frame, None, None]:
        raise NotImplementedError  # `read` uses the inner source, which reads ahead

    def read(self) -> Frame | None:
        """The next frame; waits while the source is lost. None at the end and after `interrupt` or `close`.

        Raises:
            InputError: the source failed and did not come back in time.
        """
        while not self._stopped.is_set():
            if self._source is None:
                if not self._come_back():
                    return None
                continue
            try:
                frame = self._source.read()
            except InputError as error:
                self._lose(error)
                continue
            if self._stopped.is_set():
                return None
            if frame is None:
                self._lose(None)
                continue
            self.corrupt = self._corrupt_before + self._source.corrupt
            if self._lateness.is_late(frame.timestamp_s, self._clock()):
                self.late += 1
                continue
            return self._placed(frame)
        return None

    def _placed(self, frame: Frame) -> Frame:
        """The frame with its number and time, continuing from before an outage."""
        if self._joining and self._last is not None:
            elapsed_s = max(0.0, frame.captured_at - self._last.captured_at)
            self._index_shift = self._last.index + 1 - frame.index
            self._time_shift_s = self._last.timestamp_s + elapsed_s - frame.timestamp_s
            log.warning("%s is back after %.1f s", self.name, elapsed_s)
        self._joining, self.lost_at, self._pause_s = False, None, _FIRST_S
        if self._unsettled:
            self._unsettled -= 1
            if not self._unsettled:
                return_freed_memory()  # the memory used to detect what the source sends
        if self._index_shift or self._time_shift_s:
            frame = replace(
                frame, index=frame.index + self._index_shift, timestamp_s=frame.timestamp_s + self._time_shift_s
            )
        self._last = frame
        return frame

    def _lose(self, reason: InputError | None) -> None:
        """Closes the lost source and logs it, once per outage."""
        assert self._source is not None
        self._corrupt_before = self.corrupt = self._corrupt_before + self._source.corrupt
        self._source.close()
        self._source, self._reason, self._joining = None, reason, True
        self._unsettled = _SETTLED
        return_freed_memory()  # the threads that read it are gone; nobody waits for a frame now
        self._lateness.forget()
        if self.lost_at is None:
            self.lost_at = self._clock()
            self.outages += 1
            if self._wait_s:
                log.warning("%s: reopening it", reason or f"{self.name} has ended")

    def _come_back(self) -> bool:
        """Tries once to open the source; False if the run must end, as it would have at the last loss."""
        assert self.lost_at is not None
        if self._clock() - self.lost_at >= self._wait_s:
            if self._reason is None:
                return False
            hint = f"; it did not come back within {self._wait_s:g} s" if self._wait_s else ""
            raise InputError(f"{self._reason}{hint}") from self._reason
        self._stopped.wait(self._pause_s)
        self._pause_s = min(_MOST_S, 2 * self._pause_s)
        if self._stopped.is_set():
            return False
        self._opening = Prefetch(self._opened(), 1, "rtseg-source-again")
        if self._stopped.is_set():  # `interrupt` came before there was a source to interrupt
            self._opening.interrupt()
        try:
            self._source = self._opening.get()
        except InputError as error:
            self._reason = self._reason and error  # a stream that ended normally ends the run normally
        finally:
            self._opening.close(0)
        return self._source is not None or not self._stopped.is_set()

    def _opened(self) -> Generator[Source, None, None]:
        """Opens the source on its own thread, since that may take long and cannot be interrupted."""
        source = self._open_again()
        try:
            yield source
        finally:
            if self._stopped.is_set():
                source.close()

    def interrupt(self) -> None:
        self._stopped.set()
        for waiting in (self._source, self._opening):
            if waiting is not None:
                waiting.interrupt()

    def close(self) -> None:
        self.closed = True
        self.interrupt()
        if self._source is not None:
            self._source.close()
