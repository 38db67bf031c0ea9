"""The gate for every exported graph: its labels must match torch's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rtseg.core.errors import ParityError
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size, format_size, nearest_multiple
from rtseg.engines.trial import first_chain_run, first_run
from rtseg.models.base import LAST, SegmentationModel
from rtseg.models.deploy import DeployGraph, ExitsGraph
from rtseg.pictures.resize import resize_image
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes import StreetScene

AGREEMENT = 0.999
"""Share of a frame's pixels whose label must match torch's."""

GATE_SIZES: tuple[Size, Size] = (360, 480), (192, 384)  # two aspect ratios


def street_frames(count: int = 4) -> list[np.ndarray]:
    """Pictures for the gate if none are given."""
    return [StreetScene((360, 480), seed=seed).render(40 * seed)[0] for seed in range(count)]


def gate_batches(model: SegmentationModel, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The pictures at two sizes that fit the network: uint8 BGR (N, h, w, 3) each."""
    sizes = [nearest_multiple(size_hw, model.size_multiple) for size_hw in GATE_SIZES]
    return [np.stack([resize_image(image, size_hw) for image in images]) for size_hw in sizes]


def check_parity(
    path: Path, model: SegmentationModel, labels: LabelSet, images: Sequence[np.ndarray], output: str = "logits"
) -> float:
    """Compares an ONNX file, run by onnxruntime in a child process, with the torch network.

    Args:
        path: ONNX file.
        model: the network with the weights in the file (`round_weights`).
        labels: its classes.
        images: uint8 BGR pictures of any size.
        output: the file's form, 'logits' or 'labels'.

    Returns:
        The smallest share of matching pixels over all frames and sizes.

    Raises:
        ParityError: the file cannot be run, or its labels differ; the message says where.
    """
    graph = DeployGraph(model, output).eval()
    worst = 1.0
    batches = gate_batches(model, images)
    for batch, outputs in zip(batches, first_run(path, batches), strict=True):
        size_hw = (batch.shape[1], batch.shape[2])
        for index, (image, made) in enumerate(zip(batch, outputs, strict=True)):
            with torch.inference_mode():
                expected = graph(torch.from_numpy(image)[None])[0].contiguous().numpy()
            share = _agreement(expected, made, size_hw, labels, f"{path.name} at {format_size(size_hw)}, frame {index}")
            worst = min(worst, share)
    return worst


def check_chain_parity(
    paths: Sequence[Path], model: SegmentationModel, labels: LabelSet, images: Sequence[np.ndarray]
) -> float:
    """Compares every exit of a chain of ONNX files with the network's own; otherwise like `check_parity`."""
    graph, names = ExitsGraph(model).eval(), (*model.early, LAST)
    worst = 1.0
    batches = gate_batches(model, images)
    for batch, made in zip(batches, first_chain_run(paths, batches), strict=True):
        size_hw = (batch.shape[1], batch.shape[2])
        for index, image in enumerate(batch):
            with torch.inference_mode():
                expected = [logits[0].contiguous().numpy() for logits in graph(torch.from_numpy(image)[None])]
            for name, want, found in zip(names, expected, made, strict=True):
                where = f"exit {name} at {format_size(size_hw)}, frame {index}"
                worst = min(worst, _agreement(want, found[index], size_hw, labels, where))
    return worst


def _agreement(expected: np.ndarray, made: np.ndarray, size_hw: Size, labels: LabelSet, where: str) -> float:
    if made.shape != expected.shape or not np.isfinite(made).all():
        raise ParityError(f"{where}: the output is {made.shape} or not finite; torch gives {expected.shape}")
    if made.ndim == 3:
        expected, made = (upsample_labels(logits, size_hw) for logits in (expected, made))
    differ = expected != made
    share = 1 - float(differ.mean())
    if share < AGREEMENT:
        worst_class = int(np.bincount(expected[differ], minlength=len(labels)).argmax())
        raise ParityError(
            f"{where}: only {share:.2%} of the pixels have torch's label, {AGREEMENT:.1%} are needed; "
            f"most that differ are {labels.names[worst_class]!r} in torch"
        )
    return share
