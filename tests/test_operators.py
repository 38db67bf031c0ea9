"""Shipped graphs use only operators and types that TensorRT's ONNX parser accepts, checked without a GPU.

The table is ours and covers the operators in our graphs. Its source is the support matrix of onnx-tensorrt for TensorRT
10.15 (`docs/operators.md` of github.com/onnx/onnx-tensorrt: "opset 9 to opset 24"), read in November 2026. It says less
than a parser does: a GPU has the last word (`benchmarks/gpu.sh`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.core.card import Card
from rtseg.engines.tensorrt.fixed_graph import tensor_types
from rtseg.engines.tensorrt.typed_graph import typed_graph

WEIGHTS = Path(__file__).parents[1] / "weights"
SIZE = (96, 160)  # operators do not depend on it
OPSETS = range(9, 25)

FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
NUMBERS = FLOATS | {"INT32", "INT64"}
PLAIN = NUMBERS | {"BOOL"}
# operator -> allowed types of its data: of the first input, and of all that must have the same type
SUPPORTED: dict[str, frozenset[str]] = {
    "Cast": PLAIN | {"UINT8"},
    "DequantizeLinear": frozenset({"INT8", "FLOAT8E4M3FN", "FLOAT4E2M1", "INT4"}),
    "And": frozenset({"BOOL"}),
    "Not": frozenset({"BOOL"}),
    "Or": frozenset({"BOOL"}),
    **dict.fromkeys(("Constant", "ConstantOfShape"), PLAIN | {"FLOAT8E4M3FN", "FLOAT4E2M1", "INT4"}),
    **dict.fromkeys(
        ("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Tile",
         "Transpose", "Unsqueeze", "Where"), PLAIN),
    **dict.fromkeys(
        ("Abs", "Add", "ArgMax", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
         "Mod", "Mul", "Neg", "Pad", "Pow", "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Sub"), NUMBERS),
    **dict.fromkeys(
        ("AveragePool", "BatchNormalization", "Ceil", "Clip", "Conv", "ConvTranspose", "Elu", "Erf", "Exp", "Floor",
         "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "LayerNormalization", "LeakyRelu", "MatMul",
         "MaxPool", "PRelu", "QuantizeLinear", "Resize", "Sigmoid", "Softmax", "Sqrt", "Tanh"), FLOATS),
    **dict.fromkeys(("DeformConv", "GridSample"), FLOATS - {"BFLOAT16"}),
}  # fmt: skip
BETWEEN = PLAIN | {"INT8"}  # what a tensor inside the graph may be; bytes only come in, and are cast


def problems(model: onnx.ModelProto) -> set[str]:
    """What the parser would reject, as 'Operator: reason'."""
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    found = set() if version in OPSETS else {f"opset {version}"}
    types = {name: TensorProto.DataType.Name(kind) for name, kind in tensor_types(model).items()}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants |= {node.output[0]: helper.get_node_attr_value(node, node.attribute[0].name)
                  for node in model.graph.node if node.op_type == "Constant"}  # fmt: skip
    constants |= {name: numpy_helper.to_array(value) for name, value in constants.items()
                  if isinstance(value, TensorProto)}  # fmt: skip
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in SUPPORTED:
            found.add(f"{node.op_type}: not in the table; look it up in onnx-tensorrt's docs/operators.md")
            continue
        for name in _data(node, version):
            if types[name] not in SUPPORTED[node.op_type]:
                found.add(f"{node.op_type}: {types[name]}")
        for name in node.output:
            if name and types[name] not in BETWEEN:
                found.add(f"{node.op_type}: makes {types[name]}")
        if (check := RESTRICTIONS.get(node.op_type)) and (reason := check(node, constants)):
            found.add(f"{node.op_type}: {reason}")
    return found


def _data(node: onnx.NodeProto, version: int) -> Iterator[str]:
    """The tensors of a node that share the type of its first input (or of its output, if it has none)."""
    schema = onnx.defs.get_schema(node.op_type, version)
    kind = (schema.inputs or schema.outputs)[0].type_str
    for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, name in enumerate(names):
            if name and formal[min(index, len(formal) - 1)].type_str == kind:  # the last may be variadic
                yield name


Constants = dict[str, np.ndarray]


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _pooling(node: onnx.NodeProto, constants: Constants) -> str | None:
    if any(step != 1 for step in _attributes(node).get("dilations", [])):  # type: ignore[attr-defined]
        return "dilated"
    return "gives indices" if len(node.output) > 1 and node.output[1] else None


def _layer_norm(node: onnx.NodeProto, constants: Constants) -> str | None:
    return "gives more than y" if any(node.output[1:]) else None


def _around_zero(node: onnx.NodeProto, constants: Constants) -> str | None:
    zero = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(1)
    return "a zero point that is not 0" if zero is None or np.any(zero) else None


def _constant_axes(node: onnx.NodeProto, constants: Constants) -> str | None:
    return "axes that are computed" if len(node.input) > 1 and node.input[1] not in constants else None


def _resize(node: onnx.NodeProto, constants: Constants) -> str | None:
    given = _attributes(node)
    allowed = {
        "mode": (b"nearest", b"linear"),
        "coordinate_transformation_mode": (
            b"half_pixel", b"pytorch_half_pixel", b"tf_half_pixel_for_nn", b"asymmetric", b"align_corners"),
        "nearest_mode": (b"floor", b"ceil", b"round_prefer_floor", b"round_prefer_ceil"),
        "keep_aspect_ratio_policy": (b"stretch",),
        "antialias": (0,),
    }  # fmt: skip
    wrong = [name for name, values in allowed.items() if name in given and given[name] not in values]
    return f"{wrong[0]} {given[wrong[0]]!r}" if wrong else None


RESTRICTIONS: dict[str, Callable[[onnx.NodeProto, Constants], str | None]] = {
    "LayerNormalization": _layer_norm,
    "MaxPool": _pooling,
    "AveragePool": _pooling,
    "QuantizeLinear": _around_zero,
    "DequantizeLinear": _around_zero,
    "Squeeze": _constant_axes,
    "Unsqueeze": _constant_axes,
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceSum"), _constant_axes),
    "Resize": _resize,
}


NETWORKS = sorted(path.stem for path in WEIGHTS.glob("*.json"))
FORMS = [pytest.param(name, precision, marks=() if precision == "fp16" else pytest.mark.slow)
         for name in NETWORKS for precision in ("fp32", "fp16", "int8")
         if precision != "int8" or Card.load(WEIGHTS / f"{name}.json").activation_ranges]  # fmt: skip


@pytest.mark.parametrize(("name", "precision"), FORMS)
def test_what_tensorrt_is_given_is_what_it_takes(name: str, precision: str) -> None:
    ranges = Card.load(WEIGHTS / f"{name}.json").activation_ranges
    assert problems(typed_graph(WEIGHTS / f"{name}.onnx", precision, SIZE, ranges).model) == set()


# The files themselves turn the picture's bytes around before they cast them, and measure them: `fix_shape` is why
# TensorRT never sees that.
BYTES = {f"{operator}: {said}" for operator in ("Slice", "Transpose") for said in ("UINT8", "makes UINT8")}
BYTES |= {"Shape: UINT8"}
FOLDED = {"Equal: BOOL"}  # arithmetic on shapes, which `fix_shape` folds
# onnxruntime's INT8 is unsigned; TensorRT's is written from the FP32 file instead.
UNSIGNED = {
    "QuantizeLinear: makes UINT8",
    "QuantizeLinear: a zero point that is not 0",
    "DequantizeLinear: UINT8",
    "DequantizeLinear: INT32",
    "DequantizeLinear: a zero point that is not 0",
}


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.onnx")), ids=lambda path: path.name)
def test_the_files_that_ship_need_no_more_than_is_rewritten(path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    assert problems(model) <= BYTES | FOLDED | (UNSIGNED if path.name.endswith(".int8.onnx") else set())


def graph_of(*nodes: onnx.NodeProto, given: int = TensorProto.FLOAT, opset: int = 18) -> onnx.ModelProto:
    """x (1, 3, 8, 8) through `nodes` to y, with an all-one tensor of 8 bits beside it."""
    x = helper.make_tensor_value_info("x", given, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    constants = [numpy_helper.from_array(np.uint8(1).reshape(()), "one"),
                 numpy_helper.from_array(np.float32(1).reshape(()), "scale")]  # fmt: skip
    graph = helper.make_graph(nodes, "graph", [x], [y], constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def node(operator: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs or ["x"], ["y"], **attributes)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (graph_of(node("Relu")), None),
        (graph_of(node("Det")), "Det: not in the table"),
        (graph_of(node("FusedConv", domain="com.microsoft")), "FusedConv: not in the table"),
        (graph_of(node("Relu"), given=TensorProto.DOUBLE), "Relu: DOUBLE"),
        (graph_of(node("Transpose"), given=TensorProto.UINT8), "Transpose: UINT8"),
        (graph_of(node("Cast", to=TensorProto.FLOAT), given=TensorProto.UINT8), None),
        (graph_of(node("Cast", to=TensorProto.UINT8)), "Cast: makes UINT8"),
        (graph_of(node("Identity"), opset=8), "opset 8"),
        (graph_of(node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])), "MaxPool: dilated"),
        (graph_of(node("QuantizeLinear", "x", "scale", "one")), "QuantizeLinear: a zero point"),
        (graph_of(node("Resize", "x", "", "", "sizes", mode="cubic")), "Resize: mode b'cubic'"),
        (graph_of(helper.make_node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2])), "MaxPool: gives indices"),
    ],
)  # fmt: skip
def test_what_tensorrt_does_not_take_is_found(model: onnx.ModelProto, problem: str | None) -> None:
    found = problems(model)
    assert not found if problem is None else any(reason.startswith(problem) for reason in found), found
