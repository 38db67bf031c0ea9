"""INT8 for TensorRT: quantisation written into the graph, signed 8 bits around zero, FP16 for the rest.

This is the second user of the ranges in a card; `quantise` is the first. TensorRT needs zero point 0, so a range
becomes symmetric with the larger end on both sides. Weights use all 8 bits with a scale per output channel; biases stay
floats. Scales are FP16 like their tensors, and quantisation uses the scale as rounded to FP16.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rtseg.core.errors import WeightsError
from rtseg.engines.tensorrt.fixed_graph import with_shapes
from rtseg.int8.fold import consumers
from rtseg.int8.quantise import QuantizationPlan, Ranges, carried

_LEVELS = 127
# The smallest normal FP16 number: a smaller scale would itself be rounded coarsely.
_MIN_SCALE = 2.0**-14
_OPSET = 19  # the first whose quantisation operators take FP16


def quantise_for_tensorrt(
    model: onnx.ModelProto, ranges: Ranges, skip: Collection[str] = ()
) -> tuple[onnx.ModelProto, list[str]]:
    """Adds quantisation to a float32 graph from `fix_shape`; `to_half` then makes the rest FP16.

    Args:
        model: not changed.
        ranges: low and high of every quantised tensor; cards store them.
        skip: names of convolutions that stay FP16.

    Returns:
        The graph, and the names of its integer convolutions.

    Raises:
        WeightsError: a range is missing.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    plan = QuantizationPlan(result, skip)
    tensors = [name for name in plan.tensors if name not in _summed_at_once(result.graph, plan)]
    ranges = carried(result.graph, ranges)
    missing = [name for name in tensors if name not in ranges]
    if missing:
        raise WeightsError(f"no activation range for {missing[0]}: measure them (rtseg compile --precision int8 with "
                           "--data or --frames)")  # fmt: skip
    scales = {name: symmetric_scale(*ranges[name]) for name in tensors}
    integer = [node.name for node in plan.convolutions]
    _write(result.graph, scales, set(integer))
    result.opset_import[0].version = max(_OPSET, result.opset_import[0].version)
    return with_shapes(result), integer


def symmetric_scale(low: float, high: float) -> np.float32:
    """The scale of signed 8 bits with zero point 0 that covers the larger end of a range, rounded to FP16."""
    return np.float32(np.float16(max(abs(low), abs(high), _LEVELS * _MIN_SCALE) / _LEVELS))


def _summed_at_once(graph: onnx.GraphProto, plan: QuantizationPlan) -> set[str]:
    """Convolution outputs that only an addition reads and whose other operand is quantised.

    TensorRT fuses the addition into that convolution; quantising in between would cost a pass over memory, and
    accuracy.
    """
    readers = consumers(graph)
    found: set[str] = set()
    for node in reversed(plan.convolutions):  # of two convolutions that are added, the later one does the sum
        name = node.output[0]
        after = readers.get(name, [])
        if len(after) == 1 and after[0].op_type == "Add":
            others = [other for other in after[0].input if other != name]
            if others and all(other in plan.tensors and other not in found for other in others):
                found.add(name)
    return found


def _write(graph: onnx.GraphProto, scales: dict[str, np.float32], integer: set[str]) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    new = [numpy_helper.from_array(np.array(0, np.int8), "zero.int8")]
    nodes: list[onnx.NodeProto] = []
    for node in list(graph.node):
        if node.name in integer:
            name = node.input[1]
            rounded, scale = round_weights(weights[name])
            new += [
                numpy_helper.from_array(rounded, f"{name}.q"),
                numpy_helper.from_array(scale, f"{name}.scale"),
                numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}.zero"),
            ]
            inputs = [f"{name}.q", f"{name}.scale", f"{name}.zero"]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], f"{name}.dequantize", axis=0))
            node.input[1] = f"{name}.dq"
        node.input[:] = [f"{name}.dq" if name in scales else name for name in node.input]
        nodes.append(node)
        for name in (name for name in node.output if name in scales):
            new.append(numpy_helper.from_array(np.array(scales[name]), f"{name}.scale"))
            given = [f"{name}.scale", "zero.int8"]
            nodes += [
                helper.make_node("QuantizeLinear", [name, *given], [f"{name}.q"], f"{name}.quantize"),
                helper.make_node("DequantizeLinear", [f"{name}.q", *given], [f"{name}.dq"], f"{name}.dequantize"),
            ]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *new])


def round_weights(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (K, C, h, w) -> int8 weights and float32 scales (K,), one per output channel, exact in FP16."""
    peaks = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.maximum(peaks / _LEVELS, _MIN_SCALE).astype(np.float16).astype(np.float32)
    rounded = np.rint(weight / scale[:, None, None, None]).clip(-_LEVELS, _LEVELS).astype(np.int8)
    return rounded, scale
