"""The graph for TensorRT: one size, a type for every tensor, and the type that each convolution must run in."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import onnx

from rtseg.core.sizes import Size
from rtseg.engines.tensorrt.fixed_graph import fix_shape
from rtseg.engines.tensorrt.half import to_half
from rtseg.engines.tensorrt.qdq import quantise_for_tensorrt
from rtseg.int8.quantise import Ranges

CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Convolution:
    """The cost of a convolution, and the type that it must run in: 'fp32', 'fp16' or 'int8'."""

    macs: int
    precision: str


@dataclass(frozen=True)
class TypedGraph:
    """The network in the form that TensorRT gets."""

    model: onnx.ModelProto
    convolutions: dict[str, Convolution]  # by node name


def typed_graph(
    path: Path, precision: str, size_hw: Size, ranges: Ranges | None = None, keep: Collection[str] = ()
) -> TypedGraph:
    """Makes the graph for a precision from a file that `rtseg export` wrote.

    Args:
        path: FP32 ONNX file.
        precision: 'fp32', 'fp16', or 'int8': integer convolutions, FP16 for the rest.
        size_hw: the input's height and width.
        ranges: activation ranges, for 'int8'.
        keep: names of nodes that keep the next higher type: FP32 with 'fp16', FP16 with 'int8'.

    Raises:
        WeightsError: the file cannot be read, a weight does not fit, or a range is missing.
    """
    model = fix_shape(path, size_hw)
    precisions = dict.fromkeys((node.name for node in model.graph.node if node.op_type in CONVOLUTIONS), precision)
    if precision == "fp16":
        model = to_half(model, keep)
        precisions |= dict.fromkeys(keep, "fp32")
    elif precision == "int8":
        model, integer = quantise_for_tensorrt(model, ranges or {}, keep)
        model = to_half(model)
        precisions = {name: "int8" if name in integer else "fp16" for name in precisions}
    macs = convolution_macs(model)
    return TypedGraph(model, {name: Convolution(macs[name], precisions[name]) for name in macs})


def convolution_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of every convolution by node name, for a graph with known shapes."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    macs = {}
    for node in model.graph.node:
        if node.op_type in CONVOLUTIONS:
            weight = shapes[node.input[1]]  # Conv (out, in / groups, …), ConvTranspose (in, out / groups, …)
            moved = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            macs[node.name] = moved[0] * weight[0] * weight[1] * _area(weight[2:]) * _area(moved[2:])
    return macs


def _area(sides: list[int]) -> int:
    return sides[0] * sides[1]
