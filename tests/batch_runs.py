"""Runs `rtseg-video` in separate processes, and compares the results of two runs."""

import os
import signal
import subprocess
import sys
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import av
import cv2
import numpy as np

ROOT = Path(__file__).parents[1]


def start(*arguments: object, module: str = "rtseg.apps.video", **environment: str) -> subprocess.Popen[str]:
    """The command, with this interpreter; the program is named like a module, which worker processes need."""
    paths = [str(ROOT), str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return subprocess.Popen(
        [sys.executable, "-m", module, *(str(argument) for argument in arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str], timeout_s: float = 1200) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=timeout_s)
    return process.returncode, output, errors


def segments_in(partial: Path) -> int:
    return len(list((partial / "segments").glob("*.mp4")))


def killed(segments: int, events: int, *arguments: object, **environment: str) -> None:
    """Runs the command until SIGKILL ends it, after the given number of segments and then of events."""
    process = start("self", segments, events, *arguments, module="struck_video", **environment)
    code, _, errors = finished(process)
    assert code == -signal.SIGKILL, errors


def decoded(path: Path) -> list[tuple[Fraction, str]]:
    """(time, hash of the picture) of every frame, as read by PyAV."""
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
