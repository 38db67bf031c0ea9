"""Builds the graph that engines run: uint8 BGR pictures in, logits or labels out, the original graph in between."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from rtseg.core.sizes import Size
from rtseg.importing.form import Form
from rtseg.importing.original import Original, inner_names
from rtseg.importing.scaling import Scaling

_INPUT, _PREFIX = "image", "net/"
LEAST = 1e-30  # lower bound of probabilities, so that their logarithm is finite
_BILINEAR = ("half_pixel", "pytorch_half_pixel")


def coarse_source(original: Original) -> str | None:
    """The logits before a final bilinear enlargement, which upsampling to labels repeats exactly and more cheaply.

    None if the graph does not end in one.
    """
    makers = {name: node for node in original.model.graph.node for name in node.output}
    node = makers.get(original.output)
    while node is not None and node.op_type in ("Identity", "Cast"):
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Resize" or original.opset < 11:
        return None
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    bilinear = settings.get("mode") == b"linear" and not settings.get("antialias")
    centred = settings.get("coordinate_transformation_mode", b"half_pixel").decode() in _BILINEAR
    return str(node.input[0]) if bilinear and centred and node.input[0] in makers else None


def scores_behind(original: Original) -> str | None:
    """The tensor whose best class the labels are, if the graph ends in an ArgMax over it."""
    makers = {name: node for node in original.model.graph.node for name in node.output}
    node = makers.get(original.output)
    while node is not None and node.op_type in ("Identity", "Cast", "Squeeze", "Unsqueeze"):
        node = makers.get(node.input[0])
    return str(node.input[0]) if node is not None and node.op_type == "ArgMax" else None


class DeploymentGraph:
    """The original graph between its scaling and the output form that engines expect.

    Args:
        original: the graph as read from the file.
        scaling: how it expects its pictures.
        form: of `tensor`.
        tensor: the tensor to use as its output.
        classes: number of classes.
        fixed_size: the only size that it takes, if there is just one.
    """

    def __init__(
        self, original: Original, scaling: Scaling, form: Form, tensor: str, classes: int, fixed_size: Size | None
    ) -> None:
        self._original, self._scaling, self._form = original, scaling, form
        self._tensor, self._classes, self._fixed = tensor, classes, fixed_size
        self._constants: list[onnx.TensorProto] = []
        self._made = 0

    def build(self, metadata: dict[str, Any]) -> onnx.ModelProto:
        """The model, with `metadata` as JSON in its properties."""
        model = onnx.ModelProto()
        model.CopyFrom(self._original.model)
        graph = model.graph
        _clean(model)
        _prune(graph, self._tensor)
        compose.add_prefix_graph(graph, _PREFIX, inplace=True)
        _store_constants(graph)
        after = self._after()
        if not after:  # no Identity behind the classifier, so that quantisation spares the output convolution
            _rename(graph, _PREFIX + self._tensor, self._output[0])
        nodes = [*self._before(), *graph.node, *after]
        _name_nodes(nodes)
        del graph.input[:], graph.output[:], graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self._constants)
        batch = "N" if self._original.picture.batch is None else 1
        sides: tuple[int | str, int | str] = self._fixed or ("height", "width")
        graph.input.append(helper.make_tensor_value_info(_INPUT, TensorProto.UINT8, [batch, *sides, 3]))
        name, channels = self._output
        shape = [batch, channels, f"{name}_height", f"{name}_width"]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        helper.set_model_props(model, {"rtseg": json.dumps({**metadata, "output": name})})
        return model

    @property
    def _output(self) -> tuple[str, int]:
        return ("labels", 1) if self._form.kind == "labels" else ("logits", self._classes)

    def _before(self) -> list[onnx.NodeProto]:
        """uint8 BGR (N, H, W, 3) -> the input of the original."""
        picture, scaling = self._original.picture, self._scaling
        nodes: list[onnx.NodeProto] = []
        value = _INPUT
        if scaling.order == "rgb":
            value = self._then(nodes, "Gather", value, self._constant([2, 1, 0], np.int64), axis=3)
        if not picture.channels_last:
            value = self._then(nodes, "Transpose", value, perm=[0, 3, 1, 2])
        if picture.dtype != np.uint8:
            value = self._then(nodes, "Cast", value, to=TensorProto.FLOAT)
            shape = (3,) if picture.channels_last else (3, 1, 1)
            scale = np.float64(scaling.scale)
            mean, factor = np.multiply(scaling.mean, scale), 1 / np.multiply(scaling.std, scale)
            if mean.any():
                value = self._then(nodes, "Sub", value, self._constant(mean.reshape(shape), np.float32))
            if (factor != 1).any():
                value = self._then(nodes, "Mul", value, self._constant(factor.reshape(shape), np.float32))
            if picture.dtype != np.float32:
                value = self._then(nodes, "Cast", value, to=helper.np_dtype_to_tensor_dtype(picture.dtype))
        if not nodes:
            self._then(nodes, "Identity", value)
        nodes[-1].output[0] = _PREFIX + picture.name
        return nodes

    def _after(self) -> list[onnx.NodeProto]:
        """The original's tensor -> float32 (N, C, h, w), or ids (N, 1, h, w)."""
        form, nodes = self._form, list[onnx.NodeProto]()
        value = _PREFIX + self._tensor
        if form.dtype != np.float32:
            value = self._then(nodes, "Cast", value, to=TensorProto.FLOAT)
        if form.rank == 3:
            value = self._unsqueeze(nodes, value)
        elif form.channels_last:
            value = self._then(nodes, "Transpose", value, perm=[0, 3, 1, 2])
        if form.one_channel:
            start, factor = (1.0, -1.0) if form.kind == "probabilities" else (0.0, 0.0)
            other = self._then(nodes, "Mul", value, self._constant(factor, np.float32))
            other = self._then(nodes, "Add", other, self._constant(start, np.float32))
            value = self._then(nodes, "Concat", other, value, axis=1)
        if form.kind == "probabilities":  # their logarithms are logits, up to a constant per pixel
            value = self._then(nodes, "Max", value, self._constant(LEAST, np.float32))
            value = self._then(nodes, "Log", value)
        if nodes:
            nodes[-1].output[0] = self._output[0]
        return nodes

    def _unsqueeze(self, nodes: list[onnx.NodeProto], value: str) -> str:
        if self._original.opset < 13:
            return self._then(nodes, "Unsqueeze", value, axes=[1])
        return self._then(nodes, "Unsqueeze", value, self._constant([1], np.int64))

    def _then(self, nodes: list[onnx.NodeProto], kind: str, *inputs: str, **attributes: Any) -> str:
        self._made += 1
        name = f"rtseg/{self._made}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _constant(self, value: Any, dtype: Any) -> str:
        name = f"rtseg/constant/{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


def parameters(model: onnx.ModelProto) -> int:
    """Number of values in the original's float tensors, without the statistics of batch norms."""
    graph = model.graph
    measured = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
    own = [tensor for tensor in graph.initializer if tensor.name.startswith(_PREFIX) and tensor.name not in measured]
    return sum(int(np.prod(tensor.dims)) for tensor in own if tensor.data_type in floats)


def _clean(model: onnx.ModelProto) -> None:
    """Drops notes of the exporter, which may contain paths, and shapes that belong to another batch size."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    del graph.value_info[:], model.metadata_props[:]
    for item in (graph, *graph.node, *graph.initializer):
        item.doc_string = ""
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]


def _prune(graph: onnx.GraphProto, tensor: str) -> None:
    """Removes all nodes that `tensor` does not depend on."""
    needed, kept = {tensor}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(inner_names(node))
            kept.append(node)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    inputs = [value for value in graph.input if value.name not in {weight.name for weight in graph.initializer}]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
    graph.input.extend(inputs)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turns constants, and aliases of stored tensors, into initialisers, where quantisation looks for weights."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            value = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in stored:
            value = stored[node.input[0]]
        else:
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        stored[tensor.name] = tensor
        graph.node.remove(node)


def _name_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    """Gives each node a unique name, which quantisation needs."""
    taken: set[str] = set()
    for number, node in enumerate(nodes):
        if not node.name or node.name in taken:
            node.name = f"rtseg/{node.op_type}.{number}"
        taken.add(node.name)
