"""What share of the engine's own best rate the loop keeps: decode, resize, network, upsampling, overlay, null sink.

    python benchmarks/pipeline.py --json benchmarks/results/pipeline.json

Videos of procedural street scenes are made first, at the network's input size and at 1024x2048. Each round then
times the engine alone, one picture at a time and with as many in flight as the loop keeps, and the loop of
`rtseg-cam --no-window`, one after the other, so that all meet the same machine. The share of a round is that of the
engine's better rate; the median over the rounds is reported.
"""

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from street_video import make_video

from rtseg.core.files import write_json
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import shipped
from rtseg.live.bench import BenchPlan, bench
from rtseg.live.environment import environment
from rtseg.pictures.resize import limit_threads


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=list(shipped()))
    parser.add_argument("--precision", nargs="+", default=["fp32"])
    parser.add_argument("--size", default="256x512", help="the network's input")
    parser.add_argument("--source", nargs="+", default=["256x512", "1024x2048"], help="sizes of the videos")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    limit_threads(thread_budget().opencv)
    results = []
    with TemporaryDirectory() as folder:
        for source_hw in (parse_size(size) for size in options.source):
            video = Path(folder) / f"{format_size(source_hw)}.mp4"
            make_video(video, source_hw, options.frames)
            for model in options.model:
                for precision in options.precision:
                    result = measure(model, precision, video, parse_size(options.size), options.rounds)
                    results.append(result)
                    print(
                        f"{model} {precision} on {result['engine']}, source {format_size(source_hw)}: engine "
                        f"{result['engine_fps']:.1f} fps, loop {result['end_to_end_fps']:.1f} fps, "
                        f"share {result['share']:.2f}, latency p50 {result['latency_ms']['p50']:.0f} ms"
                    )
    if options.json:
        write_json(options.json, {"environment": environment(), "results": results})


if __name__ == "__main__":
    main()
