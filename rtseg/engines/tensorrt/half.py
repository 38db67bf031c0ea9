"""FP16 written into the graph: a strongly typed network computes each layer in the type of its tensors.

FP32 stays for the picture's normalisation, and for the matrices of pyramid pooling, whose sums have thousands of terms
and cost nothing. Everything else is FP16, even the logits: casting them back would only double the bytes.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtseg.core.errors import WeightsError
from rtseg.engines.tensorrt.fixed_graph import tensor_types, with_shapes

_NORMALISATION = ("Cast", "Transpose", "Gather", "Sub", "Mul")
_STAY = {"Resize": (1, 2)}  # inputs that are always float32 in ONNX: roi and scales


def to_half(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """The same network in FP16.

    Args:
        model: float32, from `fix_shape`; not changed.
        keep: names of other nodes that stay FP32.

    Raises:
        WeightsError: a weight does not fit into FP16, or the graph has no node with a name in `keep`.
    """
    unknown = set(keep) - {node.name for node in model.graph.node}
    if unknown:
        raise WeightsError(f"the graph has no node {sorted(unknown)[0]!r} that could stay FP32")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Converter(result, {*keep, *_normalisation(model.graph), *_pooling(model.graph)}).convert()
    return with_shapes(result)


def _normalisation(graph: onnx.GraphProto) -> list[str]:
    """The nodes from the picture up to the first layer that does more than arithmetic on it."""
    constants = {tensor.name for tensor in graph.initializer}
    known, names = {graph.input[0].name} | constants, []
    for node in graph.node:
        if node.op_type in _NORMALISATION and all(name in known for name in node.input):
            known.add(node.output[0])
            names.append(node.name)
    return names


def _pooling(graph: onnx.GraphProto) -> list[str]:
    """Matrix products with a constant: the pooling and interpolation of pyramid pooling."""
    constants = {tensor.name for tensor in graph.initializer}
    return [
        node.name for node in graph.node if node.op_type == "MatMul" and any(name in constants for name in node.input)
    ]


class _Converter:
    def __init__(self, model: onnx.ModelProto, single: set[str]) -> None:
        self.graph = model.graph
        self.single = single
        types = tensor_types(model)
        self.floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.types: dict[str, int] = {}  # float tensor -> the type that it is computed in
        self.made: dict[tuple[str, int], str] = {}  # tensors that already exist in another type
        self.nodes: list[onnx.NodeProto] = []

    def convert(self) -> None:
        for node in list(self.graph.node):
            wanted = TensorProto.FLOAT if node.name in self.single else TensorProto.FLOAT16
            stay = _STAY.get(node.op_type, ())
            for index, name in enumerate(node.input):
                if name in self.floats and index not in stay and node.op_type != "Cast":
                    node.input[index] = self._in_type(name, wanted)
            if node.op_type == "Cast" and node.output[0] in self.floats:
                node.attribute[0].i = wanted
            self.types |= {name: wanted for name in node.output if name in self.floats}
            self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        for output in self.graph.output:
            output.type.tensor_type.elem_type = self.types[output.name]
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in self.constants.values() if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _in_type(self, name: str, wanted: int) -> str:
        """The tensor's name in a type; adds a cast if it does not exist in that type."""
        if self.types.get(name, TensorProto.FLOAT) == wanted:
            return name
        known = self.made.get((name, wanted))
        if known is None:
            suffix = "half" if wanted == TensorProto.FLOAT16 else "single"
            known = self.made[name, wanted] = f"{name}.{suffix}"
            if name in self.constants:
                self.constants[known] = _half_constant(self.constants[name], known)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [known], f"{known}.cast", to=wanted))
        return known


def _half_constant(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    array = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise WeightsError(f"{tensor.name} holds {np.abs(array).max():.3g}, which FP16 cannot: use --precision fp32")
    return numpy_helper.from_array(half, name)
