"""How many pictures a second an engine labels on this machine, measured in a child process.

A process of its own, because a broken build of an engine can end an interpreter, and because what one engine leaves
behind (threads, pinned cores) must not slow the next.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from rtseg.core.card import Card
from rtseg.core.errors import RtsegError
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineOptions
from rtseg.engines.child import run_module
from rtseg.engines.table import load_named

_BURST_S, _FEW, _MANY = 0.1, 3, 8  # bursts
_ALIKE = 0.1  # by which the two best bursts differ at most where nothing else kept the machine busy
_TIMEOUT_S = 300.0
_MARK = "rtseg-rate "

Rate = float | str
"""Pictures per second, or why there is none."""


class Measured(NamedTuple):
    """The rates of one engine.

    Attributes:
        rates: precision -> pictures per second, or in one line why it did not run.
        steady: whether repeats agreed; where not, something else kept the machine busy.
    """

    rates: dict[str, Rate]
    steady: bool = True


def measure_rates(artifact: Artifact, engine: str, precisions: Sequence[str], options: EngineOptions) -> Measured:
    """Measures one engine with each precision, the best of a few short bursts each.

    Args:
        artifact: the network.
        engine: a name of the table.
        precisions: in which forms to run the network.
        options: size, threads and pictures in flight as they will be; its precision is not used.
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
        if line.startswith(_MARK):  # a library may print what it likes
            precision, rate, steady = json.loads(line.removeprefix(_MARK))
            found[precision], calm = rate, calm and steady
    return Measured({precision: found.get(precision, end) for precision in precisions}, calm)


def _text(output: bytes | str | None) -> str:
    """The whole lines of a child that was stopped."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return text[: text.rfind("\n") + 1]


def time_engine(engine: Engine) -> tuple[float, bool]:
    """Pictures per second with as many in flight as the engine keeps, and whether repeats agreed.

    Labels are not upsampled to a larger size.
    """
    height, width = engine.info.size_hw
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    _, *coarse = engine.card.output_shape((height, width))
    coarse_hw = (coarse[0], coarse[1])

    def burst(seconds: float) -> float:
        ahead, start = engine.info.in_flight, perf_counter()
        for _ in range(ahead):
            engine.submit(picture, coarse_hw)
        done = 0
        while done < ahead or perf_counter() - start < seconds:  # those in flight end together: count whole rows
            for _ in range(ahead):
                engine.collect()
                engine.submit(picture, coarse_hw)
            done += ahead
        for _ in range(ahead):
            engine.collect()
        return (done + ahead) / (perf_counter() - start)

    burst(0.0)  # warms up
    rates = [burst(_BURST_S) for _ in range(_FEW)]
    while not (steady := _agree(rates)) and len(rates) < _MANY:
        rates.append(burst(_BURST_S))
    return max(rates), steady


def _agree(rates: Sequence[float]) -> bool:
    """What interrupts a burst makes it slower, never faster: only the two best tell of the engine."""
    best, second = sorted(rates, reverse=True)[:2]
    return second >= best * (1 - _ALIKE)


def _child(card: str, engine: str, size: str, threads: str, in_flight: str, *precisions: str) -> None:
    height, width = map(int, size.split("x"))
    artifact = Artifact(Card.load(Path(card)), Path(card).parent, Path(card))
    for precision in precisions:
        options = EngineOptions((height, width), precision, int(threads), int(in_flight))
        try:
            with load_named(engine, artifact, options) as loaded:
                found: tuple[Rate, bool] = time_engine(loaded)
        except RtsegError as error:
            found = str(error), True
        print(_MARK + json.dumps([precision, *found]), flush=True)


if __name__ == "__main__":
    _child(*sys.argv[1:])
