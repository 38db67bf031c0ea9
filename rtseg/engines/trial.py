"""Runs a new ONNX file for the first time, in a child process, since a broken file can crash the interpreter."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rtseg.core.errors import ParityError
from rtseg.engines.child import run_module

_TIMEOUT_S = 1800.0


def first_run(path: Path, batches: Sequence[np.ndarray], threads: int = 1) -> list[np.ndarray]:
    """Runs a deployment graph on pictures with onnxruntime, in a child process.

    Args:
        path: ONNX file.
        batches: uint8 BGR (N, h, w, 3); each may have another size.
        threads: CPU threads of the child.

    Returns:
        For each batch, its N outputs, stacked.

    Raises:
        ParityError: the child crashed, failed, or took too long.
    """
    return [made for (made,) in first_chain_run([path], batches, threads)]


def first_chain_run(paths: Sequence[Path], batches: Sequence[np.ndarray], threads: int = 1) -> list[list[np.ndarray]]:
    """Same for a chain of graphs; returns for each batch the logits of each graph."""
    name = " and ".join(path.name for path in paths)
    with TemporaryDirectory() as folder:
        given, made = Path(folder, "images.npz"), Path(folder, "outputs.npz")
        np.savez(given, *batches)
        try:
            told = [str(given), str(made), str(threads), *map(str, paths)]
            child = run_module("rtseg.engines.trial", told, _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ParityError(f"the first run of {name} took more than {_TIMEOUT_S:.0f} s") from None
        if child.returncode != 0:
            ended = f"signal {-child.returncode}" if child.returncode < 0 else f"code {child.returncode}"
            said = child.stderr.strip().splitlines()
            raise ParityError(f"the first run of {name} ended with {ended}: {said[-1] if said else 'no message'}")
        found = iter(_arrays(made))
        return [[next(found) for _ in paths] for _ in batches]


def _arrays(path: str | Path) -> list[np.ndarray]:
    """The arrays passed to `np.savez`, in the same order."""
    with np.load(path) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


def _child(given: str, made: str, threads: str, *paths: str) -> None:
    from rtseg.engines.onnxruntime_engine import open_session

    stacked: list[np.ndarray] = []
    for images in _arrays(given):
        sessions = [open_session(Path(path), images.shape[1:3], int(threads)) for path in paths]
        picture = sessions[0].get_inputs()[0].name
        found: list[list[np.ndarray]] = [[] for _ in sessions]
        for image in images:
            known = {picture: image[None]}  # and the outputs of the graphs so far
            for session, logits in zip(sessions, found, strict=True):
                outputs = session.run(None, {given.name: known[given.name] for given in session.get_inputs()})
                logits.append(outputs[0])
                known |= {output.name: value for output, value in zip(session.get_outputs(), outputs, strict=True)}
        stacked += map(np.concatenate, found)
    np.savez(made, *stacked)


if __name__ == "__main__":
    _child(*sys.argv[1:])
