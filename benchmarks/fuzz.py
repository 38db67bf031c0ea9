"""Damaged and hostile files, seeded: none may hang, end the process, or come out as anything but one clear line.

    python benchmarks/fuzz.py --count 10000 --json benchmarks/results/fuzz.json
    python benchmarks/fuzz.py --only onnx --count 500 --seed 3

Every file is a good one with some of its bytes changed, cut off, repeated or moved. Each kind is read in child
processes, so that one that dies is counted and not followed. A case is known by its kind and number: the same seed
makes it again, and `--keep FOLDER` writes those that failed.
"""

import multiprocessing
import os
import random
import shutil
import signal
import struct
import traceback
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cyclopts import App, Parameter
from fuzz_targets import TARGETS, Target

from rtseg.apps._console import run
from rtseg.core.errors import RtsegError
from rtseg.core.files import write_json
from rtseg.core.registry import unknown_name

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
_LIMIT_S = 30  # for one case; longer counts as a hang
_BATCH = 50  # cases per child process


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Changes a few random places by random amounts."""
    made = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        if not made:
            break
        place = draw.randrange(len(made))
        length = min(draw.choice((1, 2, 4, 8, 64, 1024)), len(made) - place)
        match draw.randrange(7):
            case 0:
                made[place] ^= 1 << draw.randrange(8)
            case 1:
                made[place : place + length] = draw.randbytes(length)
            case 2:
                made[place : place + 4] = struct.pack(">I", draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)))
            case 3:
                del made[place : place + length]
            case 4:
                made[place:place] = made[place : place + length] * draw.choice((1, 2, 50))
            case 5:
                del made[place:]
            case 6:
                other = draw.randrange(len(made))
                made[place : place + length] = made[other : other + length]
    return bytes(made)


def attempt(target: Target, folder: Path) -> str:
    """'read', 'refused' if the error says why, or what went wrong."""
    try:
        target.read(folder)
    except RtsegError as error:
        return "refused" if str(error) else f"refused without a word: {error!r}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {str(error)[:100]}"
    return "read"


def run_cases(name: str, numbers: range, seed: int, keep: Path | None = None) -> Counter[str]:
    """Runs cases of a kind in this process and counts the outcomes."""
    target, outcomes = TARGETS[name], Counter[str]()
    with TemporaryDirectory() as place:
        good = Path(place) / "good"
        good.mkdir()
        target.make(good)
        content = (good / target.damaged).read_bytes()
        shutil.copytree(good, Path(place) / "copy")
        if (outcome := attempt(target, Path(place) / "copy")) != "read":
            raise AssertionError(f"the good file of {name} is {outcome}")
        for number in numbers:
            folder = Path(place) / str(number)
            shutil.copytree(good, folder)
            (folder / target.damaged).write_bytes(mutate(content, random.Random(f"{name} {seed} {number}")))
            outcome = attempt(target, folder)
            outcomes[outcome] += 1
            if keep is not None and outcome not in ("read", "refused"):
                shutil.copytree(folder, keep / f"{name}-{seed}-{number}", dirs_exist_ok=True)
            shutil.rmtree(folder)
    return outcomes


def _child(name: str, numbers: range, seed: int, keep: Path | None, connection: Any) -> None:
    signal.alarm(_LIMIT_S * len(numbers))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # decoders print messages
        os.dup2(nowhere, stream)
    connection.send(dict(run_cases(name, numbers, seed, keep)))


def in_child(name: str, numbers: range, seed: int, keep: Path | None) -> Counter[str]:
    """Runs cases in a child process; if it dies, each case separately, to find the one that killed it."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(name, numbers, seed, keep, there))
    child.start()
    there.close()
    try:
        found: Counter[str] = Counter(here.recv())
        child.join()
        return found
    except EOFError:
        child.join()
    if len(numbers) > 1:
        return sum((in_child(name, range(n, n + 1), seed, keep) for n in numbers), Counter[str]())
    ended = "hangs" if child.exitcode == -signal.SIGALRM else f"ends the process ({child.exitcode})"
    return Counter({f"{ended}: {name} {seed} {numbers[0]}": 1})


@app.default
def main(
    *,
    count: int = 10_000,
    only: tuple[str, ...] = (),
    seed: int = 0,
    keep: Path | None = None,
    json: Path | None = None,
) -> int:
    """Reads damaged files.

    Args:
        count: Cases in all.
        only: Kinds of files; by default all.
        seed: Of the damage.
        keep: Folder for the cases that failed.
        json: Write what became of them to this file.
    """
    for name in only:
        if name not in TARGETS:
            raise unknown_name("kind of file", name, list(TARGETS))
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    kinds = only or tuple(TARGETS)
    each = -(-count // len(kinds))
    results: dict[str, dict[str, int]] = {}
    for name in kinds:
        outcomes = Counter[str]()
        for first in range(0, each, _BATCH):
            outcomes += in_child(name, range(first, min(first + _BATCH, each)), seed, keep)
        results[name] = dict(outcomes.most_common())
        print(name, results[name], flush=True)
    bad = sum(n for found in results.values() for kind, n in found.items() if kind not in ("read", "refused"))
    if json is not None:
        cases = sum(map(sum, (found.values() for found in results.values())))
        write_json(json, {"seed": seed, "cases": cases, "failed": bad, "results": results})
    return 1 if bad else 0


if __name__ == "__main__":
    run(app)
