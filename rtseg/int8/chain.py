"""Joins the chain of a network with exits into one graph, to measure its activation ranges on pictures."""

from collections.abc import Sequence
from pathlib import Path

import onnx

from rtseg.int8.fold import load_float_graph
from rtseg.int8.quantise import quantised_tensors


def join_chain(paths: Sequence[Path], target: Path) -> None:
    """Writes one graph with the logits of every exit: `logits_0` and so on.

    Args:
        paths: files of a chain, written by `rtseg export`.
        target: the file to write.
    """
    joined = onnx.load(paths[0])
    del joined.graph.node[:], joined.graph.output[:]
    nodes, weights = set[str](), {tensor.name for tensor in joined.graph.initializer}
    for number, path in enumerate(paths):
        graph = onnx.load(path).graph
        logits = graph.output[0].name
        for node in graph.node:
            if node.name not in nodes:  # several graphs may compute the same sizes
                node.output[:] = [f"{logits}_{number}" if name == logits else name for name in node.output]
                joined.graph.node.append(node)
        nodes |= {node.name for node in graph.node}
        joined.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name not in weights)
        weights |= {tensor.name for tensor in graph.initializer}
        graph.output[0].name = f"{logits}_{number}"
        joined.graph.output.append(graph.output[0])
    onnx.save(joined, target)


def chain_tensors(paths: Sequence[Path]) -> list[str]:
    """Names of the activations that INT8 rounds in any graph of a chain, without duplicates."""
    return list(dict.fromkeys(name for path in paths for name in quantised_tensors(load_float_graph(path))))
