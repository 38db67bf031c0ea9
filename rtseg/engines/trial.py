"""The first run of a new ONNX file, in a child process: a broken one has ended an interpreter before."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rtseg.core.errors import ParityError
from rtseg.engines.child import run_module

_TIMEOUT_S = 1800.0


def first_run(path: Path, images: np.ndarray, threads: int = 1) -> np.ndarray:
    """Runs a deployment graph on pictures with onnxruntime, in a child process.

    Args:
        path: ONNX file.
        images: uint8 BGR (N, h, w, 3).
        threads: CPU threads of the child.

    Returns:
        The N outputs, stacked.

    Raises:
        ParityError: the child crashed, failed, or took too long.
    """
    with TemporaryDirectory() as folder:
        given, made = Path(folder, "images.npy"), Path(folder, "outputs.npy")
        np.save(given, images)
        try:
            child = run_module("rtseg.engines.trial", [str(path), str(given), str(made), str(threads)], _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ParityError(f"the first run of {path.name} took more than {_TIMEOUT_S:.0f} s") from None
        if child.returncode != 0:
            ended = f"signal {-child.returncode}" if child.returncode < 0 else f"code {child.returncode}"
            said = child.stderr.strip().splitlines()
            raise ParityError(f"the first run of {path.name} ended with {ended}: {said[-1] if said else 'no message'}")
        outputs: np.ndarray = np.load(made)
    return outputs


def _child(path: str, given: str, made: str, threads: str) -> None:
    from rtseg.engines.onnxruntime_engine import open_session

    images = np.load(given)
    session = open_session(Path(path), images.shape[1:3], int(threads))
    name = session.get_inputs()[0].name
    np.save(made, np.concatenate([session.run(None, {name: image[None]})[0] for image in images]))


if __name__ == "__main__":
    _child(*sys.argv[1:])
