"""Measures networks on engines: the engine alone, every stage, and the whole loop that `rtseg-cam` runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from rtseg.core.sizes import Size
from rtseg.core.timing import Durations
from rtseg.core.weights import resolve
from rtseg.runtime.loop import Loop
from rtseg.runtime.painter import Painter
from rtseg.runtime.policy import ThreadBudget
from rtseg.runtime.segmenter import Segmenter, open_segmenter
from rtseg.vision.resize import resize_image
from rtseg.vision.sinks import NullSink
from rtseg.vision.sources import open_source

_PICTURES = 8  # different ones, so that no cache or branch predictor learns a single picture


@dataclass(frozen=True)
class BenchPlan:
    """How to measure.

    Attributes:
        source: what the whole loop reads, and where the pictures for the engine come from.
        source_hw: size of the synthetic street.
        frames: frames of the whole loop; a shorter source ends it earlier.
        runs: timed calls of the engine alone.
        warm_up: calls before them that are not timed.
    """

    source: str = "synthetic"
    source_hw: Size | None = None
    frames: int = 200
    runs: int = 100
    warm_up: int = 10


def bench(
    models: Sequence[str],
    engines: Sequence[str],
    sizes: Sequence[Size | None],
    precisions: Sequence[str],
    budget: ThreadBudget,
    plan: BenchPlan | None = None,
) -> Iterator[dict[str, Any]]:
    """Measures every combination in turn and yields its figures, times in ms, IoU in 0..1.

    A size of None is what `rtseg-cam` would take for the source. `engine_ms` is the engine alone on one thread of
    control; `stages_ms`, `end_to_end_fps` and `latency_ms` come from the loop with overlay and HUD drawn and a null
    sink, exactly what `rtseg-cam --no-window` runs.

    Raises:
        RtsegError: a combination that cannot run; nothing is left out silently.
    """
    plan = plan or BenchPlan()
    for model, engine, size_hw, precision in product(models, engines, sizes, precisions):
        with open_segmenter(model, engine, precision, size_hw, budget.total) as segmenter:
            yield _measure(segmenter, model, budget, plan)


def _measure(segmenter: Segmenter, model: str, budget: ThreadBudget, plan: BenchPlan) -> dict[str, Any]:
    pictures, frame_hw = _pictures(plan, budget)
    info = segmenter.prepare(frame_hw)
    alone = time_engine(segmenter, pictures, plan.runs, plan.warm_up)
    source = open_source(plan.source, size_hw=plan.source_hw, threads=budget.codec)
    painter = Painter()
    painter.prepare(segmenter.labels)
    report = Loop(source, segmenter, draw=painter, sinks=[NullSink()], max_frames=plan.frames).run()
    p50_ms = alone.percentile_ms(50)
    return {
        "model": model,
        "engine": info.engine,
        "runtime": info.runtime,
        "device": info.device,
        "precision": info.precision,
        "threads": info.threads,
        "size": list(info.size_hw),
        "source": report.source,
        "engine_ms": alone.summary_ms(),
        "engine_fps": round(1e3 / p50_ms, 2),
        "stages_ms": report.stages_ms,
        "end_to_end_fps": round(report.fps, 2),
        "latency_ms": report.latency_ms,
        "frames": report.frames,
        "warm_up": plan.warm_up,
        "miou": miou_of_card(model, info.precision),
    }


def _pictures(plan: BenchPlan, budget: ThreadBudget) -> tuple[list[np.ndarray], Size]:
    """A few of the source's frames, and their size."""
    with open_source(plan.source, size_hw=plan.source_hw, threads=budget.codec) as source:
        pictures: list[np.ndarray] = []
        while len(pictures) < _PICTURES and (frame := source.read()) is not None:
            pictures.append(frame.image)
        return pictures, source.size_hw


def time_engine(segmenter: Segmenter, pictures: Sequence[np.ndarray], runs: int, warm_up: int) -> Durations:
    """Times the engine alone on `pictures` in turn, resized beforehand."""
    engine = segmenter.engine
    small = [resize_image(picture, engine.info.size_hw) for picture in pictures]
    durations = Durations()
    for run in range(-warm_up, runs):
        picture = small[run % len(small)]
        if run < 0:
            engine.infer(picture)
            continue
        with durations.measure():
            engine.infer(picture)
    return durations


def miou_of_card(model: str, precision: str = "fp32") -> dict[str, float]:
    """Data set and split -> the mIoU that the network's card states for its form of a precision."""
    metrics = resolve(model).card.metrics
    stated = metrics.get("int8", {}) if precision == "int8" else metrics
    return {split: figures["miou"] for split, figures in stated.items() if figures.get("miou") is not None}
