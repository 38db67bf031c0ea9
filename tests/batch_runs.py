"""Runs of `rtseg-video` in processes of their own, and what is compared between two of them."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep

import av
import cv2
import numpy as np

ROOT = Path(__file__).parents[1]


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The command, with its own interpreter; the program's name is that of a module, as worker processes need."""
    paths = os.pathsep.join([str(ROOT), *(os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    return subprocess.Popen(
        [sys.executable, "-m", "rtseg.apps.video", *(str(argument) for argument in arguments)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str], timeout_s: float = 120) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=timeout_s)
    return process.returncode, output, errors


def segments_in(partial: Path) -> int:
    return len(list((partial / "segments").glob("*.mp4")))


def kill_at(
    process: subprocess.Popen[str], partial: Path, segments: int, seed: int, note: Callable[[], None] = lambda: None
) -> bool:
    """Kills once so many segments lie there and a random moment has passed; False where the run was over before."""
    deadline = monotonic() + 100
    while segments_in(partial) < segments:
        if process.poll() is not None or not deadline > monotonic():
            return False
        sleep(0.005)
    sleep(random.Random(seed).uniform(0, 0.15))
    note()
    process.send_signal(signal.SIGKILL)
    process.wait()
    return process.returncode == -signal.SIGKILL


def decoded(path: Path) -> list[tuple[Fraction, str]]:
    """(time, hash of the picture) of every frame, as PyAV reads them."""
    with av.open(str(path)) as container:
        return [
            (frame.pts * frame.time_base, sha256(frame.to_ndarray().tobytes()).hexdigest())
            for frame in container.decode(video=0)
        ]


def label_maps(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.iterdir())}


def same_outputs(one: Path, other: Path, name: str) -> None:
    """Asserts that two folders hold the same video frame by frame, the same label maps, areas and annotations."""
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    assert decoded(one / f"{name}.mp4") == decoded(other / f"{name}.mp4")
    first, second = label_maps(one / f"{name}_labels"), label_maps(other / f"{name}_labels")
    assert list(first) == list(second)
    for file, labels in first.items():
        np.testing.assert_array_equal(labels, second[file])
    for path in (*one.glob(f"{name}_*.*"), *(one / f"{name}_labelme").glob("*")):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path
