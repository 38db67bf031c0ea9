"""Which labels are on show when a deadline ends: the controller, every fixed rung, and dropping frames.

    python benchmarks/deadline.py --root CAMVID --json benchmarks/results/deadline.json            # about 25 minutes
    python benchmarks/deadline.py --root CAMVID --only curve --seconds 5 --deadline 33             # a try
    python benchmarks/deadline.py --root CAMVID --only load --minutes 0.2

**curve**: a split of CamVid, in order and over and over, is played at 30 fps through the loop of `rtseg-cam`, drawn but
not written. Every picture is scored against its own truth: with the labels that it was shown with by the end of its
deadline, else with those of the last picture before it that was shown by then. Nothing is left out, and where there are
no labels yet every pixel is wrong.
One run of the controller for each deadline; one run for each rung of its longest ladder, always taken and the newest
frame first, is scored at every deadline; `dropping` is what `rtseg-cam` without a deadline does with a camera: the
default network as it is.

CamVid's val was labelled at 15 Hz: at 30 fps the street goes by at twice its speed, so that older labels cost more
than they would in life. `--fps 15` plays it as it was.

**load**: the same pictures with one deadline, for minutes, while half of the cores are kept busy by other processes in
seeded bursts; once with the controller, once with the rung that the controller takes most on the quiet machine, held
where it is late just as the controller's.
"""

from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from json import loads as load_json
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Literal

import numpy as np
from cyclopts import App
from rich.console import Console

from rtseg.core.files import write_json
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.core.machine import cores
from rtseg.core.runspec import RunSpec
from rtseg.core.threads import thread_budget
from rtseg.datasets import open_data
from rtseg.live.environment import environment
from rtseg.live.labeller import Labeller
from rtseg.live.labellers.anytime import Anytime
from rtseg.live.ladder import Ladder, wishes
from rtseg.live.loop import Loop, View
from rtseg.live.painter import Painter
from rtseg.live.pipeline import Result
from rtseg.live.policies import Deadline
from rtseg.live.rung import Rung
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.pictures.resize import limit_threads
from rtseg.sources.base import Source

app = App(help=__doc__)
DEADLINES = (10.0, 15.0, 20.0, 25.0, 33.0, 40.0, 50.0, 66.0, 80.0, 100.0)
BUSY_S = QUIET_S = (2.0, 10.0)
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Plan:
    """The frames to play.

    Attributes:
        samples: pictures, uint8 BGR, and their truth, uint8, in order.
        labels: their classes.
        fps: frame rate.
        seconds: duration.
    """

    samples: list[tuple[np.ndarray, np.ndarray]]
    labels: LabelSet
    fps: float
    seconds: float


class Drive(Source):
    """The pictures, over and over, as a camera delivers them: live, at a frame rate, from memory."""

    kind = "drive"
    depth = 1

    def __init__(self, plan: Plan) -> None:
        super().__init__("drive")
        self.live, self.fps = True, plan.fps
        self._plan = plan
        self.captured: list[float] = []
        """When each frame was captured."""
        self._start()

    def _frames(self) -> Generator[Frame, None, None]:
        plan, start = self._plan, perf_counter()
        for index in range(round(plan.fps * plan.seconds)):
            due = start + index / plan.fps
            sleep(max(0.0, due - perf_counter()))
            self.captured.append(due)
            yield Frame(plan.samples[index % len(plan.samples)][0], index, index / plan.fps, due)


class Watcher:
    """The loop's view: records which labels were on show when."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, int, np.ndarray]] = []

    def show(self, loop: Loop, result: Result, picture: np.ndarray) -> None:
        self.shown.append((perf_counter(), result.frame.index, result.labels))

    def poll(self, loop: Loop) -> None:
        """Requests nothing."""

    def miou(self, plan: Plan, captured: list[float], deadline_s: float) -> float:
        """Of the labels that each frame had at its deadline: its own, or those of the last one shown before."""
        matrix = ConfusionMatrix(plan.labels)
        times, indices = [at for at, _, _ in self.shown], [index for _, index, _ in self.shown]
        for index, captured_at in enumerate(captured):
            truth = plan.samples[index % len(plan.samples)][1]
            last = min(bisect_right(times, captured_at + deadline_s), bisect_right(indices, index)) - 1
            seen = self.shown[last][2] if last >= 0 else np.full_like(truth, plan.labels.ignore_index)
            wrong = ((truth + 1) % len(plan.labels)).astype(np.uint8)  # while there are no labels yet
            matrix.update(np.where(seen == plan.labels.ignore_index, wrong, seen), truth)
        return round(matrix.miou, 4)


class Fixed(Ladder):
    """A ladder of one given rung."""

    def __init__(self, rung: Rung) -> None:
        super().__init__([spec(rung)])
        self._rung = rung

    def plan(self, frame_hw: tuple[int, int], most_s: float) -> list[Rung]:
        return [self._rung]


def play(plan: Plan, labeller: Labeller, view: View | None = None) -> tuple[list[float], dict[str, Any]]:
    """One run through the loop of `rtseg-cam`, with drawing: capture times of the frames, and the report."""
    painter = Painter()
    painter.prepare(labeller.card.labels)
    labeller.prepare(plan.samples[0][0].shape[:2])
    with Drive(plan) as drive:  # only now, because it does not wait
        report = Loop(drive, labeller, draw=painter, view=view).run()
    return drive.captured, report.to_json()


def controlled(plan: Plan, deadline_ms: float, ladder: Ladder | None = None) -> Anytime:
    """The controller, with all shipped networks unless a ladder is given."""
    policy = Deadline(deadline_ms / 1e3)
    policy.expect(plan.fps)
    return Anytime(ladder or Ladder(wishes(RunSpec())), policy)


def curve(plan: Plan, deadlines_ms: list[float]) -> dict[str, Any]:
    """mIoU against deadline for the controller, every rung, and dropping frames."""
    controller = []
    rungs: dict[str, Rung] = {}
    for deadline_ms in deadlines_ms:
        watcher = Watcher()
        with controlled(plan, deadline_ms) as labeller:
            captured, report = play(plan, labeller, watcher)
        rungs |= {str(rung): rung for rung in labeller.policy.rungs}
        miou, told = watcher.miou(plan, captured, deadline_ms / 1e3), report["deadline"]
        controller.append({"deadline_ms": deadline_ms, "miou": miou, **told})
        console.print(f"controller, {deadline_ms:g} ms: mIoU {miou:.4f}, missed {told['missed']} of {told['frames']}")
    fixed = [{**rung.to_json(), "miou": always(plan, spec(rung), deadlines_ms, name)} for name, rung in rungs.items()]
    dropping = always(plan, RunSpec(), deadlines_ms, "dropping frames")
    return {"fps": plan.fps, "seconds": plan.seconds, "deadlines_ms": deadlines_ms, "controller": controller,
            "fixed": fixed, "dropping": {"model": RunSpec.model, "miou": dropping}}  # fmt: skip


def always(plan: Plan, wish: RunSpec, deadlines_ms: list[float], name: str) -> list[float]:
    """The mIoU of one network, size and precision at every deadline; always takes the newest frame next."""
    watcher = Watcher()
    with Segmenter(wish) as segmenter:
        captured, _ = play(plan, segmenter, watcher)
    found = [watcher.miou(plan, captured, deadline_ms / 1e3) for deadline_ms in deadlines_ms]
    console.print(f"{name}: mIoU " + ", ".join(f"{d:g} ms {m:.3f}" for d, m in zip(deadlines_ms, found, strict=True)))
    return found


def spec(rung: Rung) -> RunSpec:
    return RunSpec(rung.model, rung.engine, rung.precision, rung.size_hw)


# The second load


def bursts(seconds: float, seed: int) -> list[tuple[float, float]]:
    """(begin, end) of the bursts, in seconds."""
    random, spans, now = np.random.default_rng(seed), [], 0.0
    while now < seconds:
        begin = now + float(random.uniform(*QUIET_S))
        now = begin + float(random.uniform(*BUSY_S))
        spans.append((begin, now))
    return spans


def burn(spans: list[tuple[float, float]]) -> None:
    """Keeps one core busy during each burst, like another program's arithmetic."""
    start, block = perf_counter(), np.random.default_rng(0).random((192, 192))
    for begin, end in spans:
        sleep(max(0.0, start + begin - perf_counter()))
        while perf_counter() < start + end:
            np.sin(block)  # a matrix product would use every core


@contextmanager
def loaded(spans: list[tuple[float, float]]) -> Iterator[None]:
    """Keeps half of the cores, at least one, busy during each burst."""
    processes = [get_context("spawn").Process(target=burn, args=(spans,), daemon=True) for _ in range(busy_cores())]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def busy_cores() -> int:
    return max(1, cores() // 2)


def load(plan: Plan, deadline_ms: float, seed: int) -> dict[str, Any]:
    """Misses of the controller and of a fixed rung under the same second load."""
    with controlled(plan, deadline_ms) as labeller:
        _, report = play(replace(plan, seconds=min(10.0, plan.seconds)), labeller)
    most = max(range(len(labeller.policy.rungs)), key=lambda number: report["deadline"]["rungs"][number]["frames"])
    spans = bursts(plan.seconds, seed)
    found: dict[str, Any] = {"deadline_ms": deadline_ms, "fps": plan.fps, "minutes": round(plan.seconds / 60, 2),
                             "seed": seed, "busy_cores": busy_cores(), "bursts": len(spans)}  # fmt: skip
    for name, ladder in {"controller": None, "fixed": Fixed(labeller.policy.rungs[most])}.items():
        with controlled(plan, deadline_ms, ladder) as contender:
            contender.prepare(plan.samples[0][0].shape[:2])  # measured while nothing else runs
            with loaded(spans):
                _, report = play(plan, contender)
        told = report["deadline"]
        found[name] = {**told, "share_missed": round(told["missed"] / told["frames"], 5)}
        console.print(f"{name} under load: missed {told['missed']} of {told['frames']}")
    return found


@app.default
def main(
    *,
    root: Path,
    only: Literal["curve", "load"] | None = None,
    deadline: list[float] | None = None,
    seconds: float = 30.0,
    minutes: float = 10.0,
    load_deadline: float = 33.0,
    fps: float = 30.0,
    seed: int = 0,
    split: str = "val",
    json: Path | None = None,
) -> None:
    """Plays the split against deadlines, and beside a second load.

    Args:
        root: CamVid in SegNet's layout, of 360x480 pictures.
        only: One of the two parts; the other is kept as the file has it.
        deadline: Milliseconds, of the curve; give it several times for several.
        seconds: Of each run of the curve.
        minutes: Of each of the two runs under load.
        load_deadline: Milliseconds, under load.
        fps: How fast the pictures come.
        seed: Of the bursts.
        split: A split of CamVid, such as val or only-0006R0.
        json: Write the figures to this file.
    """
    limit_threads(thread_budget().opencv)
    data = open_data("camvid", root, split)
    samples = [(sample.image, sample.labels) for sample in map(data.sample, range(len(data)))]
    plan = Plan(samples, data.labels, fps, seconds)
    before: dict[str, Any] = load_json(json.read_text(encoding="utf-8")) if json and json.is_file() else {}
    found = {**before, "environment": environment(), "split": split}
    if only != "load":
        found["curve"] = curve(plan, deadline or list(DEADLINES))
    if only != "curve":
        found["load"] = load(replace(plan, seconds=60 * minutes), load_deadline, seed)
    if json is not None:
        write_json(json, found)


if __name__ == "__main__":
    app()
