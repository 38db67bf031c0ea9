"""Throughput of `rtseg-video` against a plain read-infer-resize-argmax-write script, and against what the cores allow.

    python benchmarks/batch.py --json benchmarks/results/batch.json

Videos of procedural street scenes are made first: 20 short ones of 360x480 and 5 of 1024x2048. Both sides write an
overlay and label maps with the same network, engine, codec, preset and PNG level. Each round runs one side after the
other, so that both meet the same machine; the ratio is the median over the rounds. Then every stage runs alone; its
processor seconds per frame, all threads, give the bound: cores / (processor seconds of all stages per frame).
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
from batch_plain import label_plainly
from cyclopts import App, Parameter
from street_video import FPS, make_video

from rtseg.apps._console import run
from rtseg.batch.crew import Crew, choose_crew
from rtseg.batch.jobs import Job
from rtseg.batch.join import join_segments
from rtseg.batch.plan import Choice
from rtseg.batch.pool import InlinePool, ProcessPool
from rtseg.batch.run import Batch
from rtseg.batch.task import CRF, ENCODER_THREADS, PRESET, Loaded, Look
from rtseg.core.files import write_json
from rtseg.core.machine import cores
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import resolve
from rtseg.engines import EngineOptions, select
from rtseg.live.environment import environment
from rtseg.live.painter import Painter
from rtseg.live.pipeline import Result
from rtseg.live.segmenter import Segmenter
from rtseg.live.spec import default_size
from rtseg.pictures.resize import limit_threads
from rtseg.sinks.base import write_picture
from rtseg.sinks.video import VideoSink
from rtseg.sources.open import open_source
from rtseg.sources.video_index import index_video

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
SAVE = ("overlay", "labels")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        model: A network.
        engine: Its engine.
        precision: Its precision.
        case: SIZE:VIDEOS, as many as you like.
        frames: Of each video.
        rounds: Timed runs of each side.
        jobs: Workers; by default measured, as the command does.
        json: Write the figures to this file.
    """

    model: str = "icnet"
    engine: str = "auto"
    precision: str = "auto"
    case: tuple[str, ...] = ("360x480:20", "1024x2048:5")
    frames: int = 150
    rounds: int = 3
    jobs: int | None = None
    json: Path | None = None


class Silent:
    """A watcher that shows nothing."""

    def opened(self, outcome: object) -> None:
        pass

    def advanced(self, outcome: object, frames: int) -> None:
        pass

    def ended(self, outcome: object) -> None:
        pass

    def loaded(self, event: Loaded) -> None:
        pass


def make_videos(folder: Path, size_hw: Size, count: int, frames: int) -> list[Path]:
    names = [f"{format_size(size_hw)}_{number:02d}.mp4" for number in range(count)]
    return [make_video(folder / name, size_hw, frames, seed) for seed, name in enumerate(names)]


def run_batch(videos: list[Path], choice: Choice, crew: Crew, folder: Path) -> float:
    """Seconds that the batch takes, including start and end of its workers."""
    batch = Batch([Job(path, folder, SAVE) for path in videos], choice, crew.threads, Silent())
    start = perf_counter()
    batch.run(InlinePool if crew.processes == 1 else lambda handle: ProcessPool(handle, crew.processes))
    return perf_counter() - start


def run_plain(videos: list[Path], choice: Choice, size_hw: Size, folder: Path) -> float:
    """Seconds that the plain script takes, including the loading of its engine."""
    start = perf_counter()
    with Segmenter(choice.network(size_hw, cores())) as segmenter:
        segmenter.prepare(size_hw)
        for path in videos:
            label_plainly(path, segmenter.engine, folder / f"{path.stem}.mp4", folder / f"{path.stem}_labels")
    return perf_counter() - start


def agreement(one: Path, other: Path, videos: list[Path]) -> float:
    """Share of pixels with the same label on both sides."""
    same = total = 0
    for path in sorted((one / f"{videos[0].stem}_labels").iterdir()):
        pair = [cv2.imread(str(folder / path.parent.name / path.name), cv2.IMREAD_UNCHANGED) for folder in (one, other)]
        same, total = same + int(np.count_nonzero(pair[0] == pair[1])), total + pair[0].size
    return same / total


def stage_costs(video: Path, segmenter: Segmenter, frames: int) -> dict[str, float]:
    """Stage -> processor seconds per frame over all its threads, each stage alone in this process."""
    with open_source(video, threads=1) as source:
        kept = [frame for frame, _ in zip(source, range(frames), strict=False)]
    results = [Result(frame, segmenter(frame), segmenter.card, segmenter.info, {}) for frame in kept]
    painter = Painter(hud=False)
    pictures = [painter(result) for result in results]

    def decode() -> None:
        with open_source(video, threads=1) as source:
            for _, _ in zip(source, range(frames), strict=False):
                pass

    def infer() -> None:
        for frame in kept:
            segmenter(frame)

    def draw() -> None:
        for result in results:
            painter(result)

    def overlay() -> None:
        with TemporaryDirectory() as folder:
            sink = VideoSink(Path(folder) / "a.mp4", kept[0].size_hw, FPS, crf=CRF, preset=PRESET,
                             threads=ENCODER_THREADS, joinable=True)  # fmt: skip
            with sink:
                for result, picture in zip(results, pictures, strict=True):
                    sink.write(result.frame, result.labels, picture)

    def labels() -> None:
        with TemporaryDirectory() as folder:
            for result in results:
                write_picture(Path(folder) / f"{result.frame.index:06d}.png", result.labels)

    stages = {"decode": decode, "infer": infer, "draw": draw, "overlay": overlay, "labels": labels}
    return {name: processor_seconds(stage) / len(kept) for name, stage in stages.items()}


def driver_costs(video: Path, labelled: Path, frames: int) -> dict[str, float]:
    """The cost of the process that drives a cluster, in seconds per frame, and the bytes to and from storage."""
    start = perf_counter()
    index = index_video(video)
    indexed = perf_counter()
    overlay = labelled / f"{video.stem}.mp4"
    with TemporaryDirectory() as folder:
        join_segments([(overlay, 0)], Path(folder) / "joined.mp4", index.time_base, index.duration)
        joined = perf_counter()
    maps = sum(path.stat().st_size for path in (labelled / f"{video.stem}_labels").iterdir())
    return {
        "index_ms": (indexed - start) / frames * 1e3,
        "join_ms": (joined - indexed) / frames * 1e3,
        "input_bytes": video.stat().st_size / frames,
        "overlay_bytes": overlay.stat().st_size / frames,
        "label_bytes": maps / frames,
    }


def processor_seconds(work: Callable[[], None]) -> float:
    start = process_time()
    work()
    return process_time() - start


def measure(size_hw: Size, count: int, options: Options, folder: Path) -> dict[str, Any]:
    videos = make_videos(folder, size_hw, count, options.frames)
    artifact = resolve(options.model)
    wanted = EngineOptions(default_size(artifact.card, size_hw), threads=cores())
    chosen = select(options.engine, options.precision, artifact, wanted)
    choice = Choice(artifact.card, RunSpec(options.model, chosen.engine, chosen.precision), Look())
    crew = Crew(options.jobs, max(1, cores() // options.jobs)) if options.jobs else None
    crew = crew or choose_crew([Job(videos[0], folder, SAVE)], choice, cores())
    seconds: dict[str, list[float]] = {"rtseg": [], "plain": []}
    for number in range(options.rounds + 1):  # the first is the warm-up
        with TemporaryDirectory(dir=folder) as ours, TemporaryDirectory(dir=folder) as theirs:
            taken = {
                "rtseg": run_batch(videos, choice, crew, Path(ours)),
                "plain": run_plain(videos, choice, size_hw, Path(theirs)),
            }
            alike = agreement(Path(ours), Path(theirs), videos)
            driver = driver_costs(videos[0], Path(ours), options.frames)
        for side in seconds if number else ():
            seconds[side].append(taken[side])
    network_hw = default_size(artifact.card, size_hw)
    with Segmenter(choice.network(size_hw, crew.threads)) as segmenter:
        segmenter.prepare(size_hw)
        costs = stage_costs(videos[0], segmenter, min(options.frames, 60))
    frames = count * options.frames
    fps = {side: frames / statistics.median(times) for side, times in seconds.items()}
    bound = cores() / sum(costs.values())
    return {
        "size": list(size_hw),
        "videos": count,
        "frames": frames,
        "model": artifact.card.name,
        "engine": chosen.engine,
        "precision": chosen.precision,
        "network": list(network_hw),
        "workers": crew.processes,
        "threads": crew.threads,
        "rounds": options.rounds,
        "warm_up_rounds": 1,
        "seconds": {side: [round(one, 3) for one in times] for side, times in seconds.items()},
        "fps": {side: round(value, 2) for side, value in fps.items()},
        "faster_by": round(
            statistics.median(b / a for a, b in zip(seconds["rtseg"], seconds["plain"], strict=True)), 3
        ),
        "same_labels": round(alike, 6),
        "processor_ms_a_frame": {name: round(cost * 1e3, 3) for name, cost in costs.items()},
        "driver_a_frame": {name: round(cost, 4) for name, cost in driver.items()},
        "bound_fps": round(bound, 2),
        "share_of_bound": round(fps["rtseg"] / bound, 3),
    }


@app.default
def main(options: Options | None = None) -> None:
    options = options or Options()
    limit_threads(thread_budget().opencv)
    results = []
    for size, count in (case.split(":") for case in options.case):
        with TemporaryDirectory() as folder:
            result = measure(parse_size(size), int(count), options, Path(folder))
        results.append(result)
        costs = " + ".join(f"{name} {cost:.1f}" for name, cost in result["processor_ms_a_frame"].items())
        print(
            f"{size}, {count} videos, {result['workers']} workers of {result['threads']} threads: "
            f"{result['fps']['rtseg']:.1f} fps, plain {result['fps']['plain']:.1f} fps, {result['faster_by']:.2f}x; "
            f"same labels {result['same_labels']:.4%}\n"
            f"  bound {cores()} cores / ({costs}) ms = {result['bound_fps']:.1f} fps, "
            f"reached {result['share_of_bound']:.2f}"
        )
    if options.json:
        write_json(options.json, {"environment": environment(), "results": results})


if __name__ == "__main__":
    run(app)
