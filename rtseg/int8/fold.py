"""The float graph that quantisation starts from: plain float32 convolutions with folded batch norms."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rtseg.core.errors import WeightsError

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_QUANTISED = ("QuantizeLinear", "DequantizeLinear")


def load_float_graph(path: Path) -> onnx.ModelProto:
    """Reads a file written by `rtseg export` and folds weight casts and batch norms; tensor names stay.

    Raises:
        WeightsError: the file cannot be read, or holds convolutions whose weights are computed.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf raises its own exceptions, which differ between its implementations
        raise WeightsError(f"{path} is not an ONNX file that can be read: {error}") from error
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    _fold_casts(model.graph, weights)
    _fold_computed_weights(model, weights)
    _fold_batch_norms(model.graph, weights)
    _check_stored(model.graph, weights, path)
    used = {name for node in model.graph.node for name in node.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items() if name in used
    )
    return model


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor -> the nodes that read it."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _check_stored(graph: onnx.GraphProto, weights: dict[str, np.ndarray], path: Path) -> None:
    """Raises WeightsError for convolutions without stored weights, such as those of a quantised imported graph."""
    for node in graph.node:
        if node.op_type in _CONVOLUTIONS and any(name and name not in weights for name in node.input[1:]):
            raise WeightsError(f"{path} does not store the weights of {node.name} but computes them, as graphs do that "
                               "are quantised already: no INT8 form can be made of it")  # fmt: skip


def _fold_casts(graph: onnx.GraphProto, weights: dict[str, np.ndarray]) -> None:
    for node in list(graph.node):
        if node.op_type == "Cast" and node.input[0] in weights:
            to = helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
            weights[node.output[0]] = weights[node.input[0]].astype(to)
            graph.node.remove(node)


def _fold_computed_weights(model: onnx.ModelProto, weights: dict[str, np.ndarray]) -> None:
    """Computes convolution weights that depend on other weights alone, such as those with moved taps."""
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    for conv in [node for node in graph.node if node.op_type in _CONVOLUTIONS]:
        name = conv.input[1]
        if name in weights or (needed := _needed(name, made_by, weights)) is None:
            continue
        nodes = [node for node in graph.node if any(output in needed for output in node.output)]
        read = [numpy_helper.from_array(array, key) for key, array in weights.items() if key in needed]
        output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        part = helper.make_model(
            helper.make_graph(nodes, "weights", [], [output], read),
            opset_imports=model.opset_import, ir_version=model.ir_version,
        )  # fmt: skip
        made: Any = ReferenceEvaluator(part).run(None, {})
        weights[name] = made[0]
        graph.node.remove(made_by[name])
    _drop_unread(graph)


def _needed(name: str, made_by: dict[str, onnx.NodeProto], weights: dict[str, np.ndarray]) -> set[str] | None:
    """All tensors that one is computed from; None if they include the picture or 8-bit numbers."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        tensor = waiting.pop()
        if tensor in found or not tensor:
            continue
        found.add(tensor)
        if tensor in weights:
            continue
        if tensor not in made_by or made_by[tensor].op_type in _QUANTISED:
            return None
        waiting += made_by[tensor].input
    return found


def _drop_unread(graph: onnx.GraphProto) -> None:
    kept = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if kept.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            kept.update(node.input)


def _fold_batch_norms(graph: onnx.GraphProto, weights: dict[str, np.ndarray]) -> None:
    """Conv, then BatchNormalization -> Conv with scaled weights and a bias, with the batch norm's output name."""
    readers = consumers(graph)
    for node in [node for node in graph.node if node.op_type in _CONVOLUTIONS]:
        after = readers.get(node.output[0], [])
        measured = [reader for reader in after if reader.op_type == "Shape"]
        after = [reader for reader in after if reader.op_type != "Shape"]
        if len(after) != 1 or after[0].op_type != "BatchNormalization":
            continue
        norm = after[0]
        scale, bias, mean, variance = (weights[name] for name in norm.input[1:5])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = (scale / np.sqrt(variance + epsilon)).astype(np.float32)
        weight = weights[node.input[1]]
        shape = (-1, 1, 1, 1) if node.op_type == "Conv" else (1, -1, 1, 1)
        start = weights[node.input[2]] if len(node.input) > 2 else np.zeros_like(mean)
        folded, offset = f"{node.input[1]}.folded", f"{norm.input[2]}.folded"
        weights[folded] = (weight * factor.reshape(shape)).astype(np.float32)
        weights[offset] = ((start - mean) * factor + bias).astype(np.float32)
        node.input[:] = [node.input[0], folded, offset]
        for reader in measured:
            reader.input[0] = norm.output[0]
        node.output[0] = norm.output[0]
        graph.node.remove(norm)
