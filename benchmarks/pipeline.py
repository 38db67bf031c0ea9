"""What share of the engine's own best rate the loop keeps: decode, resize, network, upsampling, overlay, null sink.

    python benchmarks/pipeline.py --json benchmarks/results/pipeline.json

Videos of procedural street scenes are made first, at the network's input size and at 1024x2048. Each round then
times the engine alone, one picture at a time and with as many in flight as the loop keeps, and the loop of
`rtseg-cam --no-window`, one after the other, so that all meet the same machine. The share of a round is that of the
engine's better rate; the median over the rounds is reported.
"""

import statistics
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter
from street_video import street_video

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import shipped
from rtseg.live.bench import BenchPlan, bench
from rtseg.live.environment import environment
from rtseg.pictures.resize import limit_threads

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))


def measure(model: str, precision: str, video: Path, network_hw: Size, rounds: int) -> dict[str, Any]:
    plan = BenchPlan(source=str(video), frames=1000, runs=60)
    spec = RunSpec(model, precision=precision, size_hw=network_hw)
    results = list(bench([spec] * rounds, plan))
    middle = sorted(results, key=lambda result: result["end_to_end_fps"])[len(results) // 2]
    return {
        "model": model,
        "engine": middle["engine"],
        "precision": precision,
        "size": list(network_hw),
        "source": middle["source"]["size"],
        "rounds": rounds,
        "in_flight": middle["in_flight"],
        "engine_fps": statistics.median(best_fps(result) for result in results),
        "end_to_end_fps": statistics.median(result["end_to_end_fps"] for result in results),
        "share": round(statistics.median(r["end_to_end_fps"] / best_fps(r) for r in results), 3),
        "latency_ms": middle["latency_ms"],
        "stages_ms": middle["stages_ms"],
    }


def best_fps(result: dict[str, Any]) -> float:
    return max(result["engine_fps"], result["engine_ahead_fps"])


@app.default
def main(
    *,
    model: tuple[str, ...] = (),
    precision: tuple[str, ...] = ("fp32",),
    size: str = "256x512",
    source: tuple[str, ...] = ("256x512", "1024x2048"),
    frames: int = 150,
    rounds: int = 5,
    json: Path | None = None,
) -> None:
    """Measures the engine and the loop.

    Args:
        model: Networks; by default those that ship.
        precision: Their precisions.
        size: The network's input.
        source: Sizes of the videos.
        frames: Of each video.
        rounds: How often both are timed.
        json: Write the figures to this file.
    """
    limit_threads(thread_budget().opencv)
    network_hw, results = parse_size(size), []
    for source_hw in [parse_size(text) for text in source]:  # all are checked first
        with street_video(source_hw, frames) as video:
            for name in model or shipped():
                for form in precision:
                    result = measure(name, form, video, network_hw, rounds)
                    results.append(result)
                    print(
                        f"{name} {form} on {result['engine']}, source {format_size(source_hw)}: engine "
                        f"{result['engine_fps']:.1f} fps, loop {result['end_to_end_fps']:.1f} fps, "
                        f"share {result['share']:.2f}, latency p50 {result['latency_ms']['p50']:.0f} ms"
                    )
    if json is not None:
        write_json(json, {"environment": environment(), "results": results})


if __name__ == "__main__":
    run(app)
