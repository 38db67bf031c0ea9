"""Parity gate: a built engine must return onnxruntime's labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rtseg.core.errors import ParityError
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size, format_size
from rtseg.engines.onnxruntime_engine import open_session
from rtseg.pictures.resize import resize_image
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes import StreetScene

AGREEMENT = {"fp32": 0.999, "fp16": 0.995, "int8": 0.985}
"""Precision -> share of the pixels of all frames that must have the label of onnxruntime's FP32 file."""

Labels = Callable[[np.ndarray, Size], np.ndarray]
"""(uint8 BGR (h, w, 3), label size) -> uint8 (H, W)."""


def street_frames(size_hw: Size, count: int = 4) -> list[np.ndarray]:
    """Pictures for the gate if no others are given."""
    return [StreetScene(size_hw, seed=seed).render(40 * seed)[0] for seed in range(count)]


def check_labels(
    make: Labels,
    path: Path,
    images: Sequence[np.ndarray],
    size_hw: Size,
    precision: str,
    labels: LabelSet,
    threads: int,
) -> float:
    """Compares an engine's labels with onnxruntime's.

    Args:
        make: returns the engine's labels.
        path: the network's FP32 ONNX file.
        images: uint8 BGR pictures of any size.
        size_hw: size of the network's input and of the labels.
        precision: what the engine computes in.
        labels: the network's classes.
        threads: CPU threads for onnxruntime.

    Returns:
        The share of equal pixels over all frames.

    Raises:
        ParityError: the share is below `AGREEMENT`; names the class and the frame that differ most.
    """
    session = open_session(path, size_hw, threads)
    name = session.get_inputs()[0].name
    shares, missed = [], np.zeros(len(labels), np.int64)
    for image in images:
        picture = resize_image(image, size_hw)
        expected = upsample_labels(session.run(None, {name: picture[None]})[0][0], size_hw)
        differ = make(picture, size_hw) != expected
        shares.append(1 - float(differ.mean()))
        missed += np.bincount(expected[differ], minlength=len(labels))[: len(labels)]
    share = float(np.mean(shares))
    if share < AGREEMENT[precision]:
        most = labels.names[int(missed.argmax())]
        advice = (
            "; rtseg compile --engine tensorrt --precision int8 --keep-worst 4 keeps the convolutions that lose most"
        )
        raise ParityError(
            f"{path.stem} in {precision} at {format_size(size_hw)}: only {share:.2%} of the pixels have onnxruntime's "
            f"label, {AGREEMENT[precision]:.1%} are needed; most that differ are {most!r} there, "
            f"the worst frame is number {int(np.argmin(shares))} with {min(shares):.2%}"
            f"{advice if precision == 'int8' else ''}"
        )
    return share
