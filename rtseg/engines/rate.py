"""Measures in a child process how many frames per second an engine manages beside the loop's other work.

In the loop all stages share the cores, so what counts is the processor time that an engine takes per picture. Unlike
the clock, it also compares engines fairly if something else uses the cores for a while: they are measured one after the
other, and the clock would blame whichever ran then.

A child process, because a broken build of an engine can crash an interpreter, and because what one engine leaves behind
(threads, pinned cores) must not slow down the next.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np

from rtseg.core.card import Card
from rtseg.core.errors import RtsegError
from rtseg.core.machine import cores
from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineOptions
from rtseg.engines.child import run_module
from rtseg.engines.table import TABLE, load_named
from rtseg.pictures.overlay import Overlay
from rtseg.pictures.resize import limit_threads, resize_image
from rtseg.pictures.upsample import upsample_labels

_BURST_S, _FEW, _MANY = 0.1, 3, 8  # seconds of a burst; fewest and most bursts
_ALIKE = 0.1  # the two best bursts differ by at most this if the machine was not busy
_FRAME = 3  # a frame has this many times the height and width of the network's input
WHOLE = 2.8  # the loop's whole work beside the engine, as a multiple of the timed part; the rest is mostly decoding
_TIMEOUT_S = 300.0
_MARK = "rtseg-rate "


class Fps(NamedTuple):
    """How fast an engine is.

    Attributes:
        alone: pictures per second if nothing else runs.
        beside: frames per second beside the loop's other work.
    """

    alone: float
    beside: float


Rate = Fps | str
"""How fast an engine is, or why it does not run."""


class Measured(NamedTuple):
    """The rates of one engine.

    Attributes:
        rates: precision -> how fast it ran, or why it did not run, in one line.
        steady: whether repeats agreed; if not, something else kept the machine busy.
    """

    rates: dict[str, Rate]
    steady: bool = True


class Timing(NamedTuple):
    """The time that an engine takes alone.

    Attributes:
        fps: pictures per second.
        cpu_s: seconds of processor time per picture, over all threads.
        steady: whether repeats agreed.
    """

    fps: float
    cpu_s: float
    steady: bool

    def in_loop(self, other_s: float, on_cores: int, busy: int) -> Fps:
        """Converts the timing to rates alone and in a loop.

        Alone, an engine manages at least busy / cpu_s pictures a second; if the clock shows fewer, something else used
        the cores. In a loop it manages as many as alone, but at most on_cores / (cpu_s + other_s), since the cores have
        no more time.

        Args:
            other_s: seconds of processor time per frame that the loop takes beside the engine.
            on_cores: cores that everything shares.
            busy: fewest cores that the engine keeps busy alone: one per picture in flight, 0 on a GPU.
        """
        alone = max(self.fps, busy / self.cpu_s) if busy else self.fps
        return Fps(alone, min(alone, on_cores / (self.cpu_s + other_s)))


def measure_rates(artifact: Artifact, engine: str, precisions: Sequence[str], options: EngineOptions) -> Measured:
    """Measures one engine with each precision; the best of a few short bursts counts.

    Args:
        artifact: the network.
        engine: its name in the engine table.
        precisions: the forms of the network to run.
        options: size, threads and pictures in flight, as in the real run; its precision is not used.
    """
    size = "x".join(map(str, options.size_hw))
    given = [str(artifact.paths[0]), engine, size, str(options.threads), str(options.in_flight), *precisions]
    try:
        child = run_module("rtseg.engines.rate", given, _TIMEOUT_S)
        last = child.stderr.strip().splitlines()[-1:] or ["no message"]
        said, end = child.stdout, f"its process ended with code {child.returncode}: {last[0]}"
    except subprocess.TimeoutExpired as expired:
        said, end = _text(expired.stdout), f"it took more than {_TIMEOUT_S:.0f} s"
    except OSError as error:
        said, end = "", f"no process can be started: {error}"
    found: dict[str, Rate] = {}
    calm = True
    for line in said.splitlines():
        if line.startswith(_MARK):  # libraries may print other lines
            precision, rate, steady = json.loads(line.removeprefix(_MARK))
            found[precision], calm = as_rate(rate), calm and steady
    return Measured({precision: found.get(precision, end) for precision in precisions}, calm)


def as_rate(value: Any) -> Rate:
    """Reads a rate from JSON; raises TypeError if it is not one."""
    return value if isinstance(value, str) else Fps(*map(float, value))


def _text(output: bytes | str | None) -> str:
    """The complete lines that a stopped child has printed."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return text[: text.rfind("\n") + 1]


def time_engine(engine: Engine) -> Timing:
    """Times an engine alone, with as many pictures in flight as it takes.

    Labels are not upsampled to a larger size.
    """
    height, width = engine.info.size_hw
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    _, *coarse = engine.card.output_shape((height, width))
    coarse_hw = (coarse[0], coarse[1])

    def burst(seconds: float) -> tuple[int, float, float]:
        """The number of pictures, and the seconds and processor time that they took."""
        ahead, start, cpu = engine.info.in_flight, perf_counter(), process_time()
        for _ in range(ahead):
            engine.submit(picture, coarse_hw)
        done = 0
        while done < ahead or perf_counter() - start < seconds:  # those in flight end together: count whole rounds
            for _ in range(ahead):
                engine.collect()
                engine.submit(picture, coarse_hw)
            done += ahead
        for _ in range(ahead):
            engine.collect()
        return done + ahead, perf_counter() - start, process_time() - cpu

    burst(0.0)  # warms up
    bursts = [burst(_BURST_S) for _ in range(_FEW)]
    while not (steady := _agree([count / seconds for count, seconds, _ in bursts])) and len(bursts) < _MANY:
        bursts.append(burst(_BURST_S))
    counts, _, cpu = zip(*bursts, strict=True)
    fps = max(count / seconds for count, seconds, _ in bursts)
    return Timing(fps, sum(cpu) / sum(counts), steady)  # sums, since some systems count processor time in 1/64 s


def other_work_s(card: Card, size_hw: Size) -> float:
    """Seconds of processor time per frame that the loop takes beside the engine.

    A frame with three times the network's height and width is resized, gets labels of its size, and is drawn. Decoding
    and handing over are not run but counted as 1.8 times as much, as measured with a 1024x2048 H.264 file.

    Args:
        card: the network's card.
        size_hw: size of its input.
    """
    height, width = (_FRAME * length for length in size_hw)
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    logits = np.zeros(card.output_shape(size_hw), np.float32)
    labels, picture, overlay = np.empty((height, width), np.uint8), np.empty_like(frame), Overlay(card.labels)

    def work() -> None:
        resize_image(frame, size_hw)
        upsample_labels(logits, (height, width), labels, threads=1)
        overlay.render(frame, labels, out=picture)

    work()  # warms up
    start, began, count = process_time(), perf_counter(), 0
    while count < _FEW or perf_counter() - began < _BURST_S:
        work()
        count += 1
    return WHOLE * (process_time() - start) / count


def _agree(rates: Sequence[float]) -> bool:
    """Whether the two best bursts agree. Interruptions only ever slow a burst down, so the others say nothing."""
    best, second = sorted(rates, reverse=True)[:2]
    return second >= best * (1 - _ALIKE)


def _child(card: str, engine: str, size: str, threads: str, in_flight: str, *precisions: str) -> None:
    height, width = map(int, size.split("x"))
    artifact = Artifact(Card.load(Path(card)), Path(card).parent, Path(card))
    limit_threads(1)
    other_s = other_work_s(artifact.card, (height, width))
    busy = 0 if TABLE[engine].on_gpu else int(in_flight)
    for precision in precisions:
        options = EngineOptions((height, width), precision, int(threads), int(in_flight))
        try:
            with load_named(engine, artifact, options) as loaded:
                timing = time_engine(loaded)
            found: tuple[Rate, bool] = timing.in_loop(other_s, cores(), busy), timing.steady
        except RtsegError as error:
            found = str(error), True
        print(_MARK + json.dumps([precision, *found]), flush=True)


if __name__ == "__main__":
    _child(*sys.argv[1:])
