"""The graph for one input size: known shapes, folded constants, and only operators that TensorRT parses."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from rtseg.core.errors import WeightsError
from rtseg.core.sizes import Size


def fix_shape(path: Path, size_hw: Size) -> onnx.ModelProto:
    """Fixes the graph to one picture of one size; onnxruntime folds size computations, weight casts and batch norms.

    Tensor names stay, so a card's activation ranges fit the result. Every node gets a unique name, and every tensor its
    shape.

    Raises:
        WeightsError: onnxruntime cannot read the file, or a shape remains unknown.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # plain ONNX operators only
    for axis, length in zip(("N", "height", "width"), (1, *size_hw), strict=True):
        options.add_free_dimension_override_by_name(axis, length)
    with TemporaryDirectory() as folder:
        folded = Path(folder, "folded.onnx")
        options.optimized_model_filepath = str(folded)
        try:
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            model = onnx.load(folded)
        except Exception as error:  # onnxruntime's errors have no common base class
            raise WeightsError(f"onnxruntime {ort.__version__} cannot load {path}: {error}") from error
    plain = [entry for entry in model.opset_import if entry.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(plain)
    _cast_first(model.graph)
    _spell_out_batch_norms(model.graph)
    _name_nodes(model.graph)
    return with_shapes(model)


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with the type and shape of every tensor; raises WeightsError if a shape is open."""
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    for value in (*model.graph.value_info, *model.graph.output):
        if any(not axis.dim_value for axis in value.type.tensor_type.shape.dim):
            raise WeightsError(f"the shape of {value.name} does not follow from the input's: TensorRT needs it fixed")
    return model


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> its ONNX element type, for a graph from `with_shapes`."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def _cast_first(graph: onnx.GraphProto) -> None:
    """Moves the cast of the uint8 picture to the front and reverses its channels with Gather.

    TensorRT takes a uint8 input only if it is cast at once.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    picture = graph.input[0].name
    current, moved = picture, []
    while True:
        readers = [node for node in graph.node if current in node.input]
        if len(readers) != 1 or readers[0].op_type not in ("Transpose", "Slice", "Cast"):
            return  # a graph from elsewhere: the parser reports what it does not take
        moved.append(readers[0])
        if readers[0].op_type == "Cast":
            break
        current = readers[0].output[0]
    *before, cast = moved
    if not before:
        return
    last = cast.output[0]
    nodes = [helper.make_node("Cast", [picture], [f"{picture}.float"], cast.name, to=cast.attribute[0].i)]
    current = f"{picture}.float"
    for index, node in enumerate(before):
        output = last if index == len(before) - 1 else f"{node.output[0]}.float"
        if node.op_type == "Transpose":
            perm = [attribute for attribute in node.attribute if attribute.name == "perm"]
            made = helper.make_node("Transpose", [current], [output], node.name)
            made.attribute.extend(perm)
        else:
            _, starts, ends, axes, steps = (constants.get(name) for name in node.input)
            if starts is None or ends is None or axes is None or steps is None:
                return  # computed
            if axes.tolist() != [1] or steps.tolist() != [-1]:
                return
            order = np.arange(3)[slice(starts[0], None if ends[0] < -3 else ends[0], -1)]
            graph.initializer.append(numpy_helper.from_array(order.astype(np.int64), f"{node.name}.order"))
            made = helper.make_node("Gather", [current, f"{node.name}.order"], [output], node.name, axis=1)
        nodes.append(made)
        current = output
    kept = [node for node in graph.node if not any(node is old for old in moved)]
    del graph.node[:]
    graph.node.extend([*nodes, *kept])


def _spell_out_batch_norms(graph: onnx.GraphProto) -> None:
    """Replaces batch norms that follow no convolution by a product and a sum, whose constants suit FP16 well."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        scale, bias, mean, variance = (constants[name].astype(np.float64) for name in node.input[1:5])
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        name = node.output[0]
        for part, values in (("factor", factor), ("offset", bias - mean * factor)):
            array = values.astype(np.float32).reshape(-1, 1, 1)
            graph.initializer.append(numpy_helper.from_array(array, f"{name}.{part}"))
        nodes += [
            helper.make_node("Mul", [node.input[0], f"{name}.factor"], [f"{name}.scaled"], f"{node.name}.scale"),
            helper.make_node("Add", [f"{name}.scaled", f"{name}.offset"], [name], f"{node.name}.shift"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Gives each node a name, so that the layers of the built engine can be told apart."""
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)
