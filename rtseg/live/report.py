"""What a run of the loop measured: latency, throughput, stages, drops and, if there is ground truth, mIoU."""

from dataclasses import dataclass, field
from math import ceil, isnan, sqrt
from threading import Lock
from time import perf_counter
from typing import Any

from rtseg.core.card import Card
from rtseg.core.labels import CAMVID11
from rtseg.core.sizes import format_size
from rtseg.core.timing import Durations, RateMeter
from rtseg.engines import EngineInfo
from rtseg.live.pipeline import Result
from rtseg.metrics.confusion import ConfusionMatrix

STAGES = ("capture", "resize", "compare", "engine", "steady", "upsample", "confidence", "draw", "show", "write")
_KEEP = 100_000  # durations kept per stage: an hour at 30 fps, so that a camera may run for months
_FEW = 30  # frames; several in flight end together, so the time between only a few says nothing
# Scoring must not slow the loop: one frame in ten, on a grid of pixels, costs well below a millisecond a frame.
_SCORE_EVERY = 10
_SCORE_PIXELS = 1 << 17


@dataclass(frozen=True)
class LoopReport:
    """The figures of one run; latency (from capture to shown or written) and throughput are separate.

    Attributes:
        fps: frames finished per second, from the first to the last finished frame; if these are too few, over the whole
            time since the first was captured.
        latency_ms: percentiles from a picture's capture (in a file: from reading it) until it is shown and written.
        stages_ms: stage -> percentiles; stages overlap, so their sum says nothing about fps.
        drops: frames of a live source that were replaced by newer ones.
        corrupt: frames that the source could not decode and skipped.
        outages: how often a live source was lost.
        accuracy: mIoU and per-class IoU against the source's own labels, measured on every tenth frame; on large frames
            only on every second, third… pixel of every second, third… row. None if the source has no labels or the
            network knows other classes.
        deadline: the result of `Timeliness.to_json`; None if there was no deadline.
        reused: frames that got an earlier frame's labels because nothing had changed; the network did not run.
        exits: exit of the network -> frames that stopped there; empty for a network that always runs to its end.
    """

    model: str
    engine: EngineInfo | None
    source: dict[str, Any]
    frames: int
    seconds: float
    fps: float
    latency_ms: dict[str, float | int]
    stages_ms: dict[str, dict[str, float | int]]
    drops: int
    corrupt: int
    outages: int
    accuracy: dict[str, Any] | None
    deadline: dict[str, Any] | None = None
    reused: int = 0
    exits: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; sizes are [height, width]."""
        engine = None
        if self.engine is not None:
            engine = {
                "name": self.engine.engine,
                "runtime": self.engine.runtime,
                "device": self.engine.device,
                "precision": self.engine.precision,
                "size": list(self.engine.size_hw),
                "threads": self.engine.threads,
            }
        return {
            "model": self.model,
            "engine": engine,
            "source": self.source,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "latency_ms": self.latency_ms,
            "stages_ms": self.stages_ms,
            "drops": self.drops,
            "corrupt": self.corrupt,
            "outages": self.outages,
            "accuracy": self.accuracy,
            **({} if self.deadline is None else {"deadline": self.deadline}),
            "reused": self.reused,
            **({"exits": self.exits} if self.exits else {}),
        }

    def summary(self) -> str:
        """The figures for people, in one or two lines."""
        text = f"{self.frames} frames in {self.seconds:.1f} s: {self.fps:.1f} fps"
        if "p50" in self.latency_ms:
            text += f"; latency p50 {self.latency_ms['p50']:.0f} ms, p99 {self.latency_ms['p99']:.0f} ms"
        text += f"; dropped {self.drops}, corrupt {self.corrupt}"
        if self.outages:
            text += f"; source lost {self.outages} time{'s' if self.outages > 1 else ''}"
        if self.reused:
            text += f"; {self.reused} frames had the labels of an earlier one"
        if self.exits:
            text += "; stopped at " + ", ".join(f"{name} {count}" for name, count in self.exits.items())
        if self.accuracy is not None and self.accuracy["miou"] is not None:
            text += (
                f"\nmIoU {self.accuracy['miou']:.3f} against the scene's own labels ({self.accuracy['frames']} frames)"
            )
        if self.deadline is not None:
            text += "\n" + _told(self.deadline)
        return text


def _told(deadline: dict[str, Any]) -> str:
    """How a deadline was kept, and by which rungs."""
    missed, frames = deadline["missed"], deadline["frames"]
    text = (
        f"deadline {deadline['ms']:g} ms: missed {missed} of {frames} frames ({missed / max(1, frames):.2%}): "
        f"held {deadline['held']}, late {deadline['late']}, dropped {deadline['dropped']}"
    )
    for rung in reversed(deadline["rungs"]):
        size = format_size(tuple(rung["size"]))
        text += f"\n  {rung['model']} {rung['precision']} {size}: {rung['frames']} frames, {rung['seconds']:.1f} s"
    return text


class LoopStats:
    """Collects figures while the loop runs; starts again when the network changes, since mixed figures say nothing.

    `begin` is called by the loop's thread, `finish` by the writer's; the HUD reads the counts of both.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.frames = 0
        """Frames that were shown and written."""
        self.card: Card | None = None
        self.info: EngineInfo | None = None
        self._rung = ""
        self._lock = Lock()
        self._restart()

    def _restart(self) -> None:
        self.stages = {name: Durations(_KEEP) for name in STAGES}
        self.latency = Durations(_KEEP)
        self._recent_latency = Durations(90)
        self._rate = RateMeter()
        self._finished = 0
        self.reused = 0
        self._captured_at = self._first_at = self._last_at = perf_counter()
        self._matrix: ConfusionMatrix | None = None
        self.exits: dict[str, int] = {}
        self._exit = ""  # the newest frame's

    def begin(self, result: Result) -> None:
        """Counts a frame that comes from inference."""
        if result.card is not self.card or result.info != self.info:
            with self._lock:  # the writer may be counting at the same time
                self._restart()
                self.card, self.info = result.card, result.info
        self._rung = result.rung
        for name, seconds in result.stages_s.items():
            self.stages[name].add(seconds)
        self.reused += "engine" not in result.stages_s and not result.held
        self._exit = result.exit
        if result.exit:
            self.exits[result.exit] = self.exits.get(result.exit, 0) + 1
        if self.begun % _SCORE_EVERY == 0:
            self._score(result)
        self.begun += 1

    def _score(self, result: Result) -> None:
        truth = result.frame.truth
        if result.held and not result.rung:
            return  # no labels yet
        if truth is None or result.card.labels.names != CAMVID11.names:
            return
        if self._matrix is None:
            self._matrix = ConfusionMatrix(CAMVID11)
        step = max(1, ceil(sqrt(truth.size / _SCORE_PIXELS)))
        self._matrix.update(result.labels[::step, ::step], truth[::step, ::step])

    def finish(self, captured_at: float, *, timely: bool = True) -> None:
        """Counts a frame that was shown and written; `timely` is False if a pause delayed it."""
        now = perf_counter()
        with self._lock:
            if timely:
                self.latency.add(now - captured_at)
                self._recent_latency.add(now - captured_at)
            self._rate.tick()
            self.frames += 1
            self._finished += 1
            if self._finished == 1:
                self._captured_at, self._first_at = captured_at, now
            self._last_at = now

    @property
    def fps(self) -> float:
        """Frames per second since the start; 0 until a frame is finished."""
        with self._lock:
            if self._finished < _FEW:
                span = self._last_at - self._captured_at
                return self._finished / span if self._finished and span > 0 else 0.0
            return (self._finished - 1) / (self._last_at - self._first_at)

    @property
    def accuracy(self) -> dict[str, Any] | None:
        return None if self._matrix is None else self._matrix.to_json()

    def recent(self) -> tuple[float, float, float]:
        """For the newest frames: frames per second, p50 and p99 latency in milliseconds; NaN before the first."""
        with self._lock:
            return self._rate.fps, self._recent_latency.percentile_ms(50), self._recent_latency.percentile_ms(99)

    def hud(self, drops: int) -> list[str]:
        """The overlay's lines, with the figures of the newest frames."""
        fps, p50, p99 = self.recent()
        lines = [f"{fps:.1f} fps"]
        if not isnan(p50):
            lines.append(f"latency {p50:.0f} / {p99:.0f} ms (p50 / p99)")
        lines.append(f"dropped {drops}")
        if self.card is not None and self.info is not None and not self._rung:
            size = format_size(self.info.size_hw)
            lines.append(f"{self.card.name} | {self.info.engine} {self.info.precision} | {size}")
        if self._exit:
            lines.append(f"exit {self._exit}")
        return lines
