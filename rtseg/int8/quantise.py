"""INT8 for onnxruntime: convolutions on 8-bit integers, in QDQ form.

Activations are unsigned 8-bit, with the ranges measured by `calibrate`; weights are signed, with a scale per output
channel. Weights use only 7 bits, because the AVX2 multiply-add of CPUs without VNNI saturates with 8.
Convolutions on the picture itself and the classifier stay in float32, and so do a depthwise convolution right behind
the picture's and its projection (the first block of MobileNets and similar networks): they cost little and lose most.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rtseg.core.errors import WeightsError
from rtseg.int8.fold import consumers, load_float_graph

Ranges = Mapping[str, tuple[float, float]]

WEIGHT_LIMIT = 64
# exact on 8-bit values, or no worse than the quantisation of their input
_CARRIERS = ("MaxPool", "AveragePool", "Resize")


def quantised_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of the activations that INT8 rounds, in the graph's order; their ranges are needed."""
    return list(QuantizationPlan(model).tensors)


def quantise(source: Path, ranges: Ranges, target: Path) -> None:
    """Writes the INT8 form of a network.

    Args:
        source: ONNX file written by `rtseg export`.
        ranges: low and high of every tensor of `quantised_tensors`; stored in the card.
        target: the file to write.

    Raises:
        WeightsError: the file cannot be read, or a range is missing.
    """
    model = load_float_graph(source)
    plan = QuantizationPlan(model)
    missing = [name for name in plan.tensors if name not in ranges]
    if missing:
        raise WeightsError(f"no activation range for {missing[0]} of {source}: measure them (--data or --frames)")
    _Writer(model, plan, ranges).write()
    for entry in model.metadata_props:
        if entry.key == "rtseg":
            entry.value = json.dumps({**json.loads(entry.value), "precision": "int8"})
    onnx.checker.check_model(model)
    onnx.save(model, target)


class QuantizationPlan:
    """Chooses the convolutions and sums to compute in integers, and the tensors to round for them.

    Args:
        model: a float graph with its batch norms folded.
        skip: names of convolutions to leave in float.
    """

    def __init__(self, model: onnx.ModelProto, skip: Collection[str] = ()) -> None:
        graph = model.graph
        weights = {tensor.name: tensor.dims for tensor in graph.initializer}
        readers = consumers(graph)
        outputs = {output.name for output in graph.output}
        self.convolutions: list[onnx.NodeProto] = []
        self.tensors: dict[str, None] = {}  # an ordered set
        first = _first_block(graph, weights, readers)
        for node in graph.node:
            result = _after_relu(node, readers)
            if node.op_type == "Conv" and node.name not in first and result not in outputs and node.name not in skip:
                self.convolutions.append(node)
                self.tensors |= {node.input[0]: None, result: None}
            elif (node.op_type == "Add" and all(name in self.tensors for name in node.input)) or (
                node.op_type in _CARRIERS and node.input[0] in self.tensors
            ):
                self.tensors |= {result: None}


def carried(graph: onnx.GraphProto, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """Extends the ranges to tensors that pass values on: pooling and resizing never exceed the range of their input.

    The plan rounds some of these, depending on the order of the graph's nodes, so a card may lack some.
    """
    known = dict(ranges)
    for node in graph.node:
        if node.op_type in _CARRIERS and node.input[0] in known:
            known.setdefault(node.output[0], known[node.input[0]])
    return known


def _first_block(
    graph: onnx.GraphProto, weights: Mapping[str, Sequence[int]], readers: dict[str, list[onnx.NodeProto]]
) -> set[str]:
    """Names of the convolutions on the picture, of depthwise ones right behind them, and of their projections."""
    first: set[str] = set()
    seen: set[str] = set()  # outputs of the picture's convolutions
    spread: set[str] = set()  # outputs of the depthwise ones behind them
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        channels_each = weights[node.input[1]][1]
        if channels_each == 3:
            seen.add(_after_relu(node, readers))
        elif channels_each == 1 and node.input[0] in seen:
            spread.add(_after_relu(node, readers))
        elif node.input[0] not in spread:
            continue
        first.add(node.name)
    return first


def _after_relu(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]) -> str:
    """The node's output, or that of a ReLU or ReLU6 if that is its only reader: engines fuse the two.

    Rounding between them would waste most of the 8 bits on values that the activation cuts off.
    """
    name: str = node.output[0]
    after = readers.get(name, [])
    if len(after) == 1 and after[0].op_type in ("Relu", "Clip"):
        return str(after[0].output[0])
    return name


class _Writer:
    """Inserts the rounding into the graph."""

    def __init__(self, model: onnx.ModelProto, plan: QuantizationPlan, ranges: Ranges) -> None:
        self.graph = model.graph
        self.plan = plan
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.new: list[onnx.TensorProto] = []
        self.scales = {name: quantise_range(*ranges[name]) for name in plan.tensors}

    def write(self) -> None:
        integer = {node.output[0] for node in self.plan.convolutions}
        given = [value.name for value in self.graph.input if value.name in self.scales]  # from graphs before it
        nodes = [extra for name in given for extra in self._round_activation(name)]
        for node in list(self.graph.node):
            if node.output[0] in integer:
                nodes += self._round_weights(node)
            node.input[:] = [f"{name}.dq" if name in self.scales else name for name in node.input]
            nodes.append(node)
            nodes += [extra for name in node.output if name in self.scales for extra in self._round_activation(name)]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend([*kept, *self.new])

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.new.append(numpy_helper.from_array(value, name))
        return name

    def _round_activation(self, name: str) -> list[onnx.NodeProto]:
        scale, zero = self.scales[name]
        parameters = [self._constant(f"{name}.scale", scale), self._constant(f"{name}.zero", zero)]
        return [
            helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}.q"], f"{name}.quantize"),
            helper.make_node("DequantizeLinear", [f"{name}.q", *parameters], [f"{name}.dq"], f"{name}.dequantize"),
        ]

    def _round_weights(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """int8 weights, int32 bias, each with a scale per output channel."""
        name = node.input[1]
        weight = self.weights[name]
        scale = np.maximum(np.abs(weight).reshape(len(weight), -1).max(1), 1e-8).astype(np.float32) / WEIGHT_LIMIT
        rounded = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
        node.input[1] = f"{name}.dq"
        extra = [self._dequantise(name, rounded, scale)]
        if len(node.input) > 2:
            bias_name, bias_scale = node.input[2], scale * self.scales[node.input[0]][0]
            bias = np.rint(self.weights[bias_name] / bias_scale.astype(np.float64)).clip(-(2**31), 2**31 - 1)
            node.input[2] = f"{bias_name}.dq"
            extra.append(self._dequantise(bias_name, bias.astype(np.int32), bias_scale))
        return extra

    def _dequantise(self, name: str, rounded: np.ndarray, scale: np.ndarray) -> onnx.NodeProto:
        inputs = [self._constant(f"{name}.q", rounded), self._constant(f"{name}.scale", scale.astype(np.float32))]
        return helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], f"{name}.dequantize", axis=0)


def quantise_range(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of unsigned 8 bits for a range; zero itself is always exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-8) / 255
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)
