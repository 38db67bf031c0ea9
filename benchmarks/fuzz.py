"""Damaged and hostile files, seeded: none may hang, end the process, or come out as anything but one clear line.

    python benchmarks/fuzz.py --count 10000 --json benchmarks/results/fuzz.json
    python benchmarks/fuzz.py --only onnx --count 500 --seed 3

Every file is a good one with some of its bytes changed, cut off, repeated or moved. Each kind is read in child
processes, so that one that dies is counted and not followed. A case is known by its kind and number: the same seed
makes it again, and `--keep FOLDER` writes those that failed.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from rtseg.core.errors import RtsegError
from rtseg.core.files import file_sha256, write_json
from rtseg.core.frame import Frame
from rtseg.core.zoo import Artifact, resolve
from rtseg.sources.open import open_source

_LIMIT_S = 30  # of one case: a hang
_BATCH = 50  # cases a child process

Files = dict[str, bytes]  # name -> content


@dataclass(frozen=True)
class Target:
    """A kind of file: good ones, which of them is damaged, and what reads them from a folder."""

    make: Callable[[Path], None]
    damaged: str
    read: Callable[[Path], object]


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Changes a few places; what stands where, and how much, is drawn."""
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


def _make_video(folder: Path) -> None:
    from rtseg.sinks.video import VideoSink

    with VideoSink(folder / "clip.mp4", (48, 64), 25.0, threads=1) as sink:
        for index in range(12):
            picture = np.full((48, 64, 3), 20 * index, np.uint8)
            sink.write(Frame(picture, index, index / 25, 0.0), picture[..., 0], picture)


def _read_frames(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> int:
        with open_source(folder / name, threads=1) as source:
            return sum(1 for _, _ in zip(range(200), source, strict=False))

    return read


def _make_picture(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
        (folder / f"picture.{suffix}").write_bytes(cv2.imencode(f".{suffix}", picture)[1].tobytes())

    return make


def _make_network(folder: Path) -> None:
    artifact = resolve("enet")
    shutil.copy(artifact.file("fp32"), folder / "net.onnx")
    entry = replace(artifact.card.files["fp32"], file="net.onnx")
    replace(artifact.card, name="net", files={"fp32": entry}).save(folder / "net.json")


def _read_network(folder: Path) -> object:
    """As if somebody had given this file away with a card that fits it."""
    from rtseg.engines import EngineOptions, load_engine

    artifact = resolve(folder / "net.onnx")
    file = folder / "net.onnx"
    entry = replace(artifact.card.files["fp32"], sha256=file_sha256(file), bytes=file.stat().st_size)
    card = replace(artifact.card, files={"fp32": entry})
    with load_engine("onnxruntime", Artifact(card, folder), EngineOptions((64, 64))) as engine:
        return engine.labels(np.zeros((64, 64, 3), np.uint8), (64, 64))


def _read_card(folder: Path) -> object:
    artifact = resolve(folder / "net.onnx")
    artifact.card.check_size((64, 64))
    return artifact.card.to_json()


def _make_export(folder: Path) -> None:
    boxes = "".join(
        f'<image id="{number}" name="{number}.png" width="32" height="24"><polygon label="road" occluded="0" '
        'points="1,1;20,1;20,15" z_order="0"></polygon></image>' for number in range(3)
    )  # fmt: skip
    labels = "<meta><job><labels><label><name>road</name><color>#ff0000</color></label></labels></job></meta>"
    (folder / "annotations.xml").write_text(f"<annotations><version>1.1</version>{labels}{boxes}</annotations>")
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((24, 32, 3), np.uint8))


def _read_export(folder: Path) -> object:
    from rtseg.datasets.imports import open_export
    from rtseg.datasets.imports.write import import_set

    return import_set(open_export("cvat", folder / "annotations.xml", folder), folder / "made")


def _make_classes(folder: Path) -> None:
    for kind, value in (("images", 90), ("masks", 1)):
        (folder / kind).mkdir()
        for number in range(3):
            shape = (24, 32, 3) if kind == "images" else (24, 32)
            cv2.imwrite(str(folder / kind / f"{number}.png"), np.full(shape, value, np.uint8))
    classes = [{"name": name, "rgb": rgb} for name, rgb in (("road", [128, 64, 128]), ("sky", [0, 0, 255]))]
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))


def _read_folder(folder: Path) -> object:
    from rtseg.datasets import open_data

    return [sample.labels.shape for sample in open_data("folder", folder, "train")]


def _make_checkpoint(folder: Path) -> None:
    import torch

    from rtseg.training.checkpoint import save_tree

    tree = {
        "epoch": 3,
        "state_dict": {"weight": torch.ones(4, 3), "bias": torch.zeros(4)},
        "loops": [1, {"done": True}],
    }
    save_tree(tree, folder / "last.ckpt")


def _read_checkpoint(folder: Path) -> object:
    from rtseg.training.checkpoint import load_plain, load_tree

    load_plain(folder / "last.ckpt")
    return load_tree(folder / "last.ckpt")


def _make_journal(folder: Path) -> None:
    from rtseg.batch.journal import Journal

    with Journal(folder) as journal:
        journal.state(plan={"frames": 100, "size": [48, 64]}, notes=["one", "two"])


def _read_journal(folder: Path) -> object:
    from rtseg.batch.journal import Journal

    with Journal(folder) as journal:
        return journal.fact("plan"), journal.fact("notes")


TARGETS: dict[str, Target] = {
    "video": Target(_make_video, "clip.mp4", _read_frames("clip.mp4")),
    **{
        suffix: Target(_make_picture(suffix), f"picture.{suffix}", _read_frames(f"picture.{suffix}"))
        for suffix in ("png", "jpg", "webp", "tiff", "bmp", "ppm")
    },
    "onnx": Target(_make_network, "net.onnx", _read_network),
    "card": Target(_make_network, "net.json", _read_card),
    "annotations": Target(_make_export, "annotations.xml", _read_export),
    "classes": Target(_make_classes, "classes.json", _read_folder),
    "checkpoint": Target(_make_checkpoint, "last.ckpt", _read_checkpoint),
    "journal": Target(_make_journal, "journal.sqlite", _read_journal),
    "mask": Target(_make_classes, "masks/1.png", _read_folder),
}


def attempt(target: Target, folder: Path) -> str:
    """'read', 'refused' with an error that says why, or what went wrong."""
    try:
        target.read(folder)
    except RtsegError as error:
        return "refused" if str(error) else f"refused without a word: {error!r}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {str(error)[:100]}"
    return "read"


def run(name: str, numbers: range, seed: int, keep: Path | None = None) -> Counter[str]:
    """Runs cases of a kind in this process; what became of them."""
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
    for stream in (1, 2):  # decoders talk
        os.dup2(nowhere, stream)
    connection.send(dict(run(name, numbers, seed, keep)))


def in_child(name: str, numbers: range, seed: int, keep: Path | None) -> Counter[str]:
    """Runs cases in a child process; where that dies, each by itself, to know which one it was."""
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="cases in all")
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the cases that failed")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, int]] = {}
    for name in given.only:
        each = -(-given.count // len(given.only))
        outcomes = Counter[str]()
        for first in range(0, each, _BATCH):
            outcomes += in_child(name, range(first, min(first + _BATCH, each)), given.seed, given.keep)
        results[name] = dict(outcomes.most_common())
        print(name, results[name], flush=True)
    bad = sum(n for found in results.values() for kind, n in found.items() if kind not in ("read", "refused"))
    if given.json:
        write_json(given.json, {"seed": given.seed, "cases": sum(map(sum, (f.values() for f in results.values()))),
                                "failed": bad, "results": results})  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
