"""Measures networks on engines: the engine alone, every stage, and the whole loop that `rtseg-cam` runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from rtseg.core.card import Card
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size
from rtseg.core.timing import Durations
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.policies import policy_for
from rtseg.live.segmenter import Segmenter
from rtseg.sinks.base import NullSink
from rtseg.sources.open import open_source

_PICTURES = 8  # several, so that no cache or branch predictor learns a single picture


@dataclass(frozen=True)
class BenchPlan:
    """How to measure.

    Attributes:
        source: what the whole loop reads; also provides the pictures for the engine.
        source_hw: size of the synthetic street.
        frames: frames of the whole loop; fewer if the source is shorter.
        runs: timed calls of the engine alone.
        warm_up: untimed calls before them.
    """

    source: str = "synthetic"
    source_hw: Size | None = None
    frames: int = 200
    runs: int = 100
    warm_up: int = 10


def bench(specs: Iterable[RunSpec], plan: BenchPlan | None = None) -> Iterator[dict[str, Any]]:
    """Measures each spec in turn and yields its figures, times in ms, IoU in 0..1.

    A size of None becomes the size that `rtseg-cam` would use for the source. `engine_ms` is the engine alone, one
    picture at a time. `stages_ms`, `end_to_end_fps` and `latency_ms` come from the loop with overlay, HUD and a null
    sink, exactly what `rtseg-cam --no-window` runs. The loop keeps `in_flight` pictures in flight; `engine_ahead_fps`
    is the engine alone with as many.

    Raises:
        RtsegError: a spec cannot run; none is left out silently.
    """
    plan = plan or BenchPlan()
    for spec in specs:
        yield {"model": str(spec.model), **_engine_alone(spec, plan), **_whole_loop(spec, plan)}


def _engine_alone(spec: RunSpec, plan: BenchPlan) -> dict[str, Any]:
    with Segmenter(spec) as segmenter:
        pictures, frame_hw = _pictures(plan, segmenter.budget.codec)
        info = segmenter.prepare(frame_hw)
        alone = time_engine(segmenter, pictures, plan.runs, plan.warm_up)
        return {
            "engine": info.engine,
            "runtime": info.runtime,
            "device": info.device,
            "precision": info.precision,
            "threads": info.threads,
            "size": list(info.size_hw),
            "engine_ms": alone.summary_ms(),
            "engine_fps": round(1e3 / alone.percentile_ms(50), 2),
            "warm_up": plan.warm_up,
            "miou": miou_of_card(segmenter.card, info.precision),
        }


def _whole_loop(spec: RunSpec, plan: BenchPlan) -> dict[str, Any]:
    with Segmenter(spec) as segmenter:
        codec = segmenter.budget.codec
        pictures, _ = _pictures(plan, codec)
        source = open_source(plan.source, size_hw=plan.source_hw, threads=codec)
        segmenter.prepare(source.size_hw, policy_for(source).most_in_flight)
        ahead_fps = time_ahead(segmenter, pictures, plan.runs, plan.warm_up)
        painter = Painter()
        painter.prepare(segmenter.labels)
        report = Loop(source, segmenter, draw=painter, sinks=[NullSink()], max_frames=plan.frames).run()
        return {
            "source": report.source,
            "in_flight": segmenter.info.in_flight,
            "engine_ahead_fps": round(ahead_fps, 2),
            "stages_ms": report.stages_ms,
            "end_to_end_fps": round(report.fps, 2),
            "latency_ms": report.latency_ms,
            "frames": report.frames,
        }


def _pictures(plan: BenchPlan, codec: int) -> tuple[list[np.ndarray], Size]:
    """A few of the source's frames, and their size (height, width)."""
    with open_source(plan.source, size_hw=plan.source_hw, threads=codec) as source:
        pictures: list[np.ndarray] = []
        while len(pictures) < _PICTURES and (frame := source.read()) is not None:
            pictures.append(frame.image)
        return pictures, source.size_hw


def _resized(segmenter: Segmenter, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The pictures at the network's size; loads its engine."""
    return [small for picture in pictures if (small := segmenter.resize(picture)) is not None]


def time_engine(segmenter: Segmenter, pictures: Sequence[np.ndarray], runs: int, warm_up: int) -> Durations:
    """Times the engine alone on `pictures` in turn, resized beforehand."""
    engine, small = segmenter.engine, _resized(segmenter, pictures)
    durations = Durations()
    for run in range(-warm_up, runs):
        picture = small[run % len(small)]
        if run < 0:
            engine.infer(picture)
            continue
        with durations.measure():
            engine.infer(picture)
    return durations


def time_ahead(segmenter: Segmenter, pictures: Sequence[np.ndarray], runs: int, warm_up: int) -> float:
    """Pictures per second of the engine alone, resized beforehand, with as many in flight as it takes."""
    engine, small = segmenter.engine, _resized(segmenter, pictures)
    _, *logits_hw = segmenter.card.output_shape(engine.info.size_hw)
    ahead = engine.info.in_flight

    def label(count: int) -> None:
        for number in range(count):
            if number >= ahead:
                engine.collect()
            engine.submit(small[number % len(small)], (logits_hw[0], logits_hw[1]))
        for _ in range(min(count, ahead)):
            engine.collect()

    label(warm_up)
    start = perf_counter()
    label(runs)
    return runs / (perf_counter() - start)


def miou_of_card(card: Card, precision: str = "fp32") -> dict[str, float]:
    """Data set and split -> the mIoU that the network's card states for a precision."""
    stated = card.figures("int8" if precision == "int8" else "fp32")
    return {split: figures["miou"] for split, figures in stated.items() if figures.get("miou") is not None}
