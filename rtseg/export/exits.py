"""Writes a network with exits: one graph of the whole network, and the chain of graphs that can stop at each exit."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.core.card import CardFile, Exit
from rtseg.core.files import atomic_path, file_sha256
from rtseg.core.labels import LabelSet
from rtseg.export.chain import Link, cut_chain, whole_graph
from rtseg.export.onnx import build_graph, save_graph
from rtseg.export.parity import check_chain_parity
from rtseg.models.base import LAST, SegmentationModel, count_macs_by_layer
from rtseg.models.deploy import ExitsGraph


def write_exits(
    model: SegmentationModel, whole: Path, folder: Path, name: str, about: dict[str, Any],
    labels: LabelSet, images: Sequence[np.ndarray], count_size: tuple[int, int], stack: ExitStack,
) -> tuple[Exit, ...]:  # fmt: skip
    """Writes `whole` and, once `stack` is closed without an error, `folder/NAME.exit1.onnx` and so on.

    Args:
        model: the network, with exits and rounded weights.
        whole: file for the whole network as one graph.
        folder: of the chain.
        name: of the network.
        about: the metadata of each file.
        labels: its classes.
        images: uint8 BGR pictures for the parity gate.
        count_size: (height, width) for counting the multiply-accumulates.
        stack: owns the files being written.

    Raises:
        ParityError: an exit's labels differ from torch's.
    """
    names = [*model.early, LAST]
    proto = build_graph(ExitsGraph(model), [f"logits_{number}" for number in range(len(names))])
    save_graph(whole_graph(proto), whole, {**about, "output": "logits"})
    links = cut_chain(proto, model.size_multiple)
    paths = [folder / f"{name}.exit{number}.onnx" for number in range(1, len(names) + 1)]
    parts = [stack.enter_context(atomic_path(path)) for path in paths]
    for part, link, exit_name in zip(parts, links, names, strict=True):
        save_graph(link.proto, part, {**about, "output": "logits", "exit": exit_name})
    check_chain_parity(parts, model, labels, images)
    entries = [CardFile(path.name, file_sha256(part), part.stat().st_size)
               for path, part in zip(paths, parts, strict=True)]  # fmt: skip
    return tuple(
        Exit(exit_name, {"fp32": entry}, cost, link.hands_on)
        for exit_name, entry, cost, link in zip(names, entries, costs(model, links, count_size), links, strict=True)
    )


def costs(model: SegmentationModel, links: Sequence[Link], size_hw: tuple[int, int]) -> list[float]:
    """1e9 multiply-accumulates up to each exit, over all modules with weights in the graphs so far."""
    left, each = count_macs_by_layer(model, size_hw), []
    for link in links:
        held = [module for module in left if any(weight.startswith(f"{module}.") for weight in link.weights)]
        each.append(sum(left.pop(module) for module in held))
    return [round(sum(each[: number + 1]) / 1e9, 2) for number in range(len(each))]
