"""Where the processor's time of a frame goes: each stage alone, the whole loop, and what share of the rate that leaves.

    python benchmarks/budget.py --json benchmarks/results/budget.json

Stages that share the cores slow one another, so the clock does not say what each of them costs; the processor's time
does. Each stage runs alone over the frames of a video of procedural street scenes, then the loop of
`rtseg-cam --no-window` runs. The engine's share of the sum is what is left of its own rate if every core is busy all
the time: no loop that does this work keeps more.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from cyclopts import App, Parameter
from street_video import FPS, street_video

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.frame import Frame
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import parse_size
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import shipped
from rtseg.live.bench import time_ahead
from rtseg.live.environment import environment
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.policies import policy_for
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.overlay import Overlay
from rtseg.pictures.resize import limit_threads
from rtseg.pictures.upsample import upsample_labels
from rtseg.sinks.base import NullSink
from rtseg.sources.open import open_source

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
KEPT = 16  # frames in memory that the stages run on


def processor_ms(work: Callable[[Frame], object], frames: Iterable[Frame]) -> float:
    """Milliseconds per frame, summed over all cores; the first frame is a warm-up and not counted."""
    begun, count = 0.0, -1
    for frame in frames:
        work(frame)
        count += 1
        begun = begun or process_time()
    return 1e3 * (process_time() - begun) / count


def stages(segmenter: Segmenter, frames: list[Frame]) -> dict[str, float]:
    """Processor milliseconds per frame for each stage after decoding."""
    overlay, size_hw = Overlay(segmenter.labels), frames[0].size_hw
    labels, logits, drawn = np.empty(size_hw, np.uint8), segmenter.logits(frames[0]), np.empty((*size_hw, 3), np.uint8)
    several = frames * 4
    measured = {
        "resize": processor_ms(lambda frame: segmenter.input(frame.image), several),
        "labels": processor_ms(lambda _: upsample_labels(logits, size_hw, labels, threads=1), several),
        "draw": processor_ms(lambda frame: overlay.render(frame.image, labels, ["30 fps"], drawn), several),
    }
    small, runs = [segmenter.input(frame.image) for frame in frames], 60
    begun = process_time()
    time_ahead(segmenter, small, runs, 0)
    return {**measured, "engine": 1e3 * (process_time() - begun) / runs}


def measure(model: str, precision: str, video: Path) -> dict[str, Any]:
    with Segmenter(RunSpec(model, precision=precision)) as segmenter:
        source = open_source(str(video), threads=segmenter.budget.codec)
        info = segmenter.prepare(source.size_hw, policy_for(source).most_in_flight)
        frames: list[Frame] = []
        decode_ms = processor_ms(lambda frame: frames.append(frame) if len(frames) < KEPT else None, source)
        each = {"decode": decode_ms, **stages(segmenter, frames)}
        painter = Painter()
        painter.prepare(segmenter.labels)
        begun, started = process_time(), perf_counter()
        source = open_source(str(video), threads=segmenter.budget.codec)
        report = Loop(source, segmenter, draw=painter, sinks=[NullSink()]).run()
        used, passed = process_time() - begun, perf_counter() - started
    return {
        "model": model, "precision": info.precision, "engine": info.engine, "size": list(info.size_hw),
        "processor_ms": {name: round(ms, 2) for name, ms in each.items()},
        "engine_share": round(each["engine"] / sum(each.values()), 3),
        "loop_processor_ms": round(1e3 * used / report.frames, 2),
        "busy": round(used / passed / info.threads, 3), "fps": round(report.fps, 2),
    }  # fmt: skip


@app.default
def main(
    *, model: tuple[str, ...] = (), precision: str = "auto", source: str = "1024x2048", frames: int = 120,
    json: Path | None = None,
) -> None:  # fmt: skip
    """Measures the stages and the loop.

    Args:
        model: Networks; by default those that ship.
        precision: Of all networks.
        source: Size of the video.
        frames: Of the video.
        json: Write the figures to this file.
    """
    limit_threads(thread_budget().opencv)
    with street_video(parse_size(source), frames) as video:
        megabits = 8e-6 * video.stat().st_size / frames * FPS
        results = []
        for name in model or shipped():
            results.append(measure(name, precision, video))
            print(results[-1])
    if json is not None:
        about = {"source": source, "frames": frames, "megabits_a_second": round(megabits, 1)}
        write_json(json, {"environment": environment(), **about, "results": results})


if __name__ == "__main__":
    run(app)
