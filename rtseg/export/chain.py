"""Splits the graph of a network with exits into a chain of graphs: each ends at an exit and repeats nothing.

A node belongs to the first graph that needs it, which hands on the results that later graphs need. Only results that
depend on nothing but weights and the picture's size are computed again, because engines fold them into constants.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

LOGITS = "logits"


@dataclass(frozen=True)
class Link:
    """One graph of the chain.

    Attributes:
        proto: takes the picture, results of earlier graphs, or both; returns `logits`, then `hands_on`.
        hands_on: tensors for later graphs, (N, C, h, w).
        weights: names of its parameters and buffers, as in the state dict.
    """

    proto: onnx.ModelProto
    hands_on: tuple[str, ...]
    weights: frozenset[str]


def cut_chain(proto: onnx.ModelProto, multiple: int) -> list[Link]:
    """Returns one graph for each output of `proto`, in order.

    Args:
        proto: from `build_graph`; every output is the logits of an exit.
        multiple: of the network's input sizes.
    """
    known = _inferred(proto, multiple)
    proto = _sizes_from_picture(proto, known, multiple)
    graph, free = proto.graph, _free(proto.graph)
    made: dict[str, int] = {}  # tensor that costs arithmetic -> the graph that computes it
    parts: list[list[onnx.NodeProto]] = []
    takes: list[set[str]] = []
    for number, end in enumerate(output.name for output in graph.output):
        nodes, taken = _needed(graph, end, made)
        parts.append(nodes)
        takes.append(taken)
        made |= {name: number for node in nodes for name in node.output if name not in free}
    links = []
    for number, (nodes, taken) in enumerate(zip(parts, takes, strict=True)):
        later = set[str]().union(*takes[number + 1 :])
        hands_on = tuple(name for name, by in made.items() if by == number and name in later)
        links.append(_link(proto, number, nodes, [name for name in known if name in taken], hands_on, known))
    return links


def whole_graph(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The whole network as one graph, from the input of `cut_chain`."""
    last = len(proto.graph.output) - 1
    nodes, _ = _needed(proto.graph, proto.graph.output[last].name, {})
    return _link(proto, last, nodes, [proto.graph.input[0].name], (), {}).proto


def _needed(graph: onnx.GraphProto, end: str, made: dict[str, int]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes, in order, that compute `end` from the picture and the tensors in `made`, and which of these they
    read."""
    maker = {name: node for node in graph.node for name in node.output}
    found, taken, left = set[str](), set[str](), [end]
    while left:
        name = left.pop()
        if name in made or name == graph.input[0].name:
            taken.add(name)
        elif name in maker and maker[name].name not in found:
            found.add(maker[name].name)
            left += maker[name].input
    return [node for node in graph.node if node.name in found], taken


def _inferred(proto: onnx.ModelProto, multiple: int) -> dict[str, onnx.TypeProto]:
    """Tensor -> its type and shape for one picture of 8 by 12 times the multiple; includes the picture."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for axis, length in zip(fixed.graph.input[0].type.tensor_type.shape.dim, _picture(multiple), strict=False):
        axis.dim_value = length
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    return {value.name: value.type for value in (graph.input[0], *graph.value_info, *graph.output)}


def _picture(multiple: int) -> tuple[int, int, int]:
    return 1, 8 * multiple, 12 * multiple


def _shape(kind: onnx.TypeProto | None) -> list[int]:
    return [] if kind is None else [axis.dim_value for axis in kind.tensor_type.shape.dim]


def _sizes_from_picture(proto: onnx.ModelProto, known: dict[str, onnx.TypeProto], multiple: int) -> onnx.ModelProto:
    """Replaces size queries on features by queries on the picture, so that no feature is handed on for its size
    only."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    picture, nodes = proto.graph.input[0].name, []
    for node in changed.graph.node:
        features = node.op_type == "Shape" and node.input[0] != picture
        asked = {attribute.name: attribute.i for attribute in node.attribute} if features else {}
        axis, shape = asked.get("start"), _shape(known.get(node.input[0]) if features else None)
        if axis in (2, 3) and asked.get("end") == axis + 1 and len(shape) == 4 and shape[axis]:
            nodes += _part_of_picture(picture, axis - 1, _picture(multiple)[axis - 1] // shape[axis], node.output[0])
        else:
            nodes.append(node)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _part_of_picture(picture: str, axis: int, stride: int, result: str) -> list[onnx.NodeProto]:
    """Nodes that compute the picture's height (axis 1) or width (2), divided by a stride."""
    length, by = f"{result}_of_picture", f"{result}_stride"
    value = numpy_helper.from_array(np.array([stride], np.int64), by)
    return [
        helper.make_node("Shape", [picture], [length], length, start=axis, end=axis + 1),
        helper.make_node("Constant", [], [by], by, value=value),
        helper.make_node("Div", [length, by], [result], result),
    ]


def _free(graph: onnx.GraphProto) -> set[str]:
    """Tensors that depend on weights and sizes alone."""
    free = {"", *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        if node.op_type == "Shape" or free.issuperset(node.input):
            free.update(node.output)
    return free


def _link(
    proto: onnx.ModelProto, number: int, nodes: Sequence[onnx.NodeProto], takes: Sequence[str],
    hands_on: tuple[str, ...], known: dict[str, onnx.TypeProto],
) -> Link:  # fmt: skip
    """A graph of `nodes` that ends at output `number` of `proto`."""
    link = onnx.ModelProto()
    link.CopyFrom(proto)
    graph, picture, end = link.graph, proto.graph.input[0], proto.graph.output[number]
    logits = onnx.ValueInfoProto()
    logits.CopyFrom(end)
    logits.name = LOGITS
    for axis, name in zip(logits.type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
        axis.dim_param = f"{LOGITS}_{name}"
    for part in (graph.node, graph.input, graph.output, graph.initializer):
        del part[:]
    graph.node.extend(nodes)
    for node in graph.node:
        node.output[:] = [LOGITS if name == end.name else name for name in node.output]
    graph.input.extend(picture if name == picture.name else _handed(name, known[name]) for name in takes)
    graph.output.extend([logits, *(_handed(name, known[name]) for name in hands_on)])
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in used)
    return Link(link, hands_on, frozenset(tensor.name for tensor in graph.initializer))


def _handed(name: str, kind: onnx.TypeProto) -> onnx.ValueInfoProto:
    """A tensor between graphs, with free height and width."""
    shape: list[str | int | None] = ["N", _shape(kind)[1], f"{name}_height", f"{name}_width"]
    return helper.make_tensor_value_info(name, kind.tensor_type.elem_type, shape)
