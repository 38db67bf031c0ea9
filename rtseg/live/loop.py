"""The loop behind every command: capture, inference, drawing and writing overlap, and a report comes at the end."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from rtseg.core.channel import Ended
from rtseg.live.labeller import Labeller
from rtseg.live.pipeline import Pipeline, Result
from rtseg.live.policies import Policy
from rtseg.live.report import LoopReport, LoopStats
from rtseg.live.timeliness import Timeliness
from rtseg.live.writer import Job, Writer
from rtseg.sinks.base import Sink
from rtseg.sources.base import Source

_POLL_S = 0.02  # how often keys are polled while no frame arrives
_STALE_S = 1.0  # after this long without a frame, a live source's last picture is marked as stale


class View(Protocol):
    """Something the user watches. The thread that runs the loop calls it, because `imshow` must stay in one thread."""

    def show(self, loop: "Loop", result: Result, picture: np.ndarray) -> None:
        """Shows a picture, uint8 BGR (H, W, 3)."""

    def poll(self, loop: "Loop") -> None:
        """Handles what the user asked for. Called between pictures; while the loop is paused it should wait a bit."""


Draw = Callable[[Result, list[str]], np.ndarray]
"""(labelled frame, HUD lines) -> picture uint8 BGR (H, W, 3)."""


class Loop:
    """Reads, labels, draws, shows and writes frames until the source ends, a limit is reached or a stage fails.

    Capture, inference and writing each have a thread; drawing and the view run in the thread that calls `run`.
    Whatever happens, `run` ends the threads and closes the source and the sinks. The labeller stays open.

    Args:
        source: what to read; closed at the end.
        labeller: what labels the frames; it can be replaced while the loop runs.
        draw: draws the picture of a labelled frame; None: the frame is shown as it is.
        sinks: what every frame is written to, in the writer's thread; closed at the end.
        view: what the user watches.
        policy: which frames are labelled, and how many at once; default: the labeller's policy, or the usual one for
            the source.
        max_frames: stop after this many frames.
        duration_s: stop after this many seconds.
        pace: read no faster than the source's own fps.
        hold: when the source ends, stay paused on the last picture until the view stops the loop.

    Example:
        >>> report = Loop(open_source("synthetic"), segmenter, sinks=[NullSink()], max_frames=30).run()
        >>> report.fps, report.latency_ms["p50"]
    """

    def __init__(
        self,
        source: Source,
        labeller: Labeller,
        *,
        draw: Draw | None = None,
        sinks: Sequence[Sink] = (),
        view: View | None = None,
        policy: Policy | None = None,
        max_frames: int | None = None,
        duration_s: float | None = None,
        pace: bool = False,
        hold: bool = False,
    ) -> None:
        self.source = source
        self.stats = LoopStats()
        self.paused = False
        self._draw = draw
        self._sinks = list(sinks)
        self._all_sinks = list(sinks)  # includes removed ones: all are closed at the end
        self._view = view
        self._max_frames = max_frames
        self._duration_s = duration_s
        self._hold = hold
        self._started_at = self._ended_at = self._resumed_at = perf_counter()
        self._stopped = False
        self._skipped = 0
        self._excused = self._dropped_before_pause = 0  # drops in pauses and before the start; before the last pause
        self._hud: tuple[float, list[str]] = (0.0, [])
        self._newest: Result | None = None
        self._marked_at = 0.0
        self._pipeline = Pipeline(source, labeller, policy=policy, pace=pace)
        chosen = self._pipeline.policy
        self._timeliness = None if chosen.deadline_s is None else Timeliness(chosen)
        self._writer = Writer(self.stats, self._done)

    # What a view may ask for

    def stop(self) -> None:
        """Ends the loop after the current frame, as if the source had ended."""
        self._stopped = True

    def pause(self, paused: bool) -> None:
        """Freezes the picture, or resumes; a policy that drops frames then continues with the newest."""
        if paused and not self.paused:
            self._dropped_before_pause = self.drops
        elif self.paused and not paused:
            self._excused += self.drops - self._dropped_before_pause
        self.paused = paused
        self._resumed_at = perf_counter()

    def change_labeller(self, make: Callable[[], Labeller]) -> None:
        """Labels with `make()` from the next frame on. The inference thread calls it; the old labeller is closed."""
        self._pipeline.change_labeller(make)

    def add_sink(self, sink: Sink) -> None:
        """Writes every later frame to `sink` too."""
        self._sinks.append(sink)
        self._all_sinks.append(sink)

    def remove_sink(self, sink: Sink) -> None:
        """Closes `sink` once its frames in flight are written."""
        self._sinks.remove(sink)
        self._writer.close_sink(sink)

    @property
    def drops(self) -> int:
        """Frames that were never shown or written."""
        return self._pipeline.drops + self._skipped + self.source.late

    @property
    def _missed(self) -> int:
        """Dropped frames, without those during pauses and before the start."""
        return (self._dropped_before_pause if self.paused else self.drops) - self._excused

    # The run

    def run(self) -> LoopReport:
        """Runs until the end.

        Raises:
            RtsegError: the error of the stage that failed, unchanged. Other exceptions pass through too.
            KeyboardInterrupt: after the recordings are finished; `report` still returns the figures.
        """
        complete = False
        self._started_at = self._resumed_at = perf_counter()
        self._writer.start()
        try:
            with self._pipeline:
                self._consume()
            complete = True
        except KeyboardInterrupt:
            complete = True  # how users stop a camera: the recording is complete
            raise
        finally:
            self._ended_at = perf_counter()
            self._writer.finish(self._all_sinks, complete)
        return self.report()

    def _consume(self) -> None:
        while not self._stopped and not self._limit_reached():
            if (failed := self._writer.error or self._pipeline.crew.error) is not None:
                raise failed
            if self._view is not None:
                self._view.poll(self)
                if self.paused or self._stopped:
                    continue
            try:
                result = self._pipeline.take(_POLL_S)
            except Ended:
                if not self._hold or self._view is None:
                    break
                self.pause(True)
                continue
            if result is not None:
                self._handle(result)
            elif self.source.live:
                self._mark_stale()

    def _limit_reached(self) -> bool:
        if self._max_frames is not None and self.stats.begun >= self._max_frames:
            return True
        return self._duration_s is not None and perf_counter() - self._started_at >= self._duration_s

    def _handle(self, result: Result) -> None:
        policy, captured_at = self._pipeline.policy, result.frame.captured_at
        timely = captured_at >= self._resumed_at
        if self._timeliness is None and self._resumed_at == self._started_at:
            timely = True  # with a deadline, frames captured while networks were loading are too old
        if policy.drops and (not timely or policy.expired(captured_at, perf_counter())):
            self._skipped += 1
            self._excused += not timely
            return
        if not self.stats.begun:
            self._excused += self.source.late  # frames that piled up before the run began
        self.stats.begin(result)
        self._newest, self._marked_at = result, perf_counter()
        picture = result.frame.image
        if self._draw is not None:
            with self.stats.stages["draw"].measure():
                picture = self._draw(result, self.hud_lines(result))
        if self._view is not None:
            with self.stats.stages["show"].measure():
                self._view.show(self, result, picture)
        if self._timeliness is not None:
            self._timeliness.shown(result)
        if self._sinks:
            self._writer.write(Job(result, picture, tuple(self._sinks), timely))
        else:
            self._done(result, timely)

    def _mark_stale(self) -> None:
        """Shows the last picture again, marked as stale, if no new one has come for a while."""
        now, newest = perf_counter(), self._newest
        if newest is None or self._view is None or self._draw is None or now - self._marked_at < _STALE_S:
            return
        self._marked_at = now
        stale = f"STALE: no picture for {now - newest.frame.captured_at:.0f} s"
        self._view.show(self, newest, self._draw(newest, [*self.hud_lines(newest), stale]))

    def _done(self, result: Result, timely: bool) -> None:
        """Counts a finished frame; the age of one that was read ahead starts with the run."""
        self.stats.finish(max(result.frame.captured_at, self._started_at), timely=timely)

    def hud_lines(self, result: Result) -> list[str]:
        """The HUD's lines. Figures update four times a second, so that they can be read; the rung at every frame."""
        if perf_counter() - self._hud[0] > 0.25:
            self._hud = perf_counter(), self.stats.hud(self.drops)
        return self._hud[1] + (self._timeliness.hud(result, self._missed) if self._timeliness else [])

    def report(self) -> LoopReport:
        """The figures of the run so far; after the end, of the whole run."""
        stats, source = self.stats, self.source
        about: dict[str, Any] = {"name": source.name, "size": list(source.size_hw), "fps": source.fps}
        return LoopReport(
            model=stats.card.name if stats.card else "",
            engine=stats.info,
            source=about,
            frames=stats.frames,
            seconds=self._ended_at - self._started_at,
            fps=stats.fps,
            latency_ms=stats.latency.summary_ms(),
            stages_ms={name: stage.summary_ms() for name, stage in stats.stages.items() if len(stage)},
            drops=self.drops,
            corrupt=source.corrupt,
            outages=source.outages,
            accuracy=stats.accuracy,
            deadline=self._timeliness.to_json(self._missed) if self._timeliness else None,
            reused=stats.reused,
            exits=stats.exits,
        )
