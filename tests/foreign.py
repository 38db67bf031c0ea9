"""Small ONNX graphs in forms that rtseg does not write itself, which `rtseg import` must accept or reject."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5


def foreign(path, *, nhwc=False, dtype=np.float32, batch="batch", size=("h", "w"), ends="logits", opset=17,
            half_weights=False, external=False, stride=4, inputs=1, multiple=1, enlarge=False, classes=CLASSES,
            name="x"):  # fmt: skip
    """Writes a graph of means of stride x stride pixels times fixed weights, in the requested form.

    Args:
        path: file to write.
        nhwc: layout of input and output.
        dtype: of the input, and of the output unless that is labels.
        batch: a number or a name.
        size: height and width, numbers or names.
        ends: 'logits', 'probabilities', 'labels', 'labels4' (N, 1, h, w), 'two' (logits and an auxiliary), or
            'sigmoid' (one channel).
        classes: channels.
        opset: of the file.
        half_weights: stored as fp16 behind a Cast.
        external: weights in a file beside it.
        stride: of the logits.
        inputs: number of inputs; more than one is rejected.
        multiple: input sizes must be multiples of this, or the graph fails.
        enlarge: whether it ends in a bilinear Resize to the input size.
        name: of the input.
    """
    channels = 1 if ends == "sigmoid" else classes
    weights = np.random.default_rng(3).normal(0, 0.1, (channels, 3, 1, 1)).astype(np.float32)
    weights -= weights.mean((0, 1), keepdims=True)  # so that no class wins everywhere
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes, constants = [], {"weights": weights}
    add = lambda op, inputs, output, **kw: nodes.append(helper.make_node(op, inputs, [output], **kw))  # noqa: E731
    add("Cast", [name], "cast", to=TensorProto.FLOAT)
    value = "cast"
    if dtype is np.uint8:
        constants["centre"] = np.float32(128)
        add("Sub", ["cast", "centre"], "centred")
        value = "centred"
    if nhwc:
        add("Transpose", [value], "planes", perm=[0, 3, 1, 2])
        value = "planes"
    if multiple > 1:  # adds the picture shrunk and enlarged, which has the same size only at multiples
        constants |= {"roi": np.zeros(0, np.float32), "up": np.array([1, 1, multiple, multiple], np.float32)}
        add("AveragePool", [value], "small", kernel_shape=[multiple] * 2, strides=[multiple] * 2)
        add("Resize", ["small", "roi", "up"], "large", mode="nearest")
        add("Add", [value, "large"], "sum")
        value = "sum"
    add("AveragePool", [value], "means", kernel_shape=[stride] * 2, strides=[stride] * 2, ceil_mode=1)
    if half_weights:
        constants["weights"] = weights.astype(np.float16)
        add("Cast", ["weights"], "wide", to=TensorProto.FLOAT)
    add("Conv", ["means", "wide" if half_weights else "weights"], "scores")
    value = "scores"
    if enlarge:
        constants |= {"roi": np.zeros(0, np.float32), "factors": np.array([1, 1, stride, stride], np.float32)}
        add("Resize", [value, "roi", "factors"], "full", mode="linear")
        value = "full"
    outputs = _end(add, value, ends, nhwc, kind)
    sides = [*size, 3] if nhwc else [3, *size]
    taken = [helper.make_tensor_value_info(name, kind, [batch, *sides])]
    taken += [helper.make_tensor_value_info(f"mask{extra}", TensorProto.FLOAT, [1]) for extra in range(1, inputs)]
    given = [helper.make_tensor_value_info(output, type_, None) for output, type_ in outputs]
    stored = [numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()]
    graph = helper.make_graph(nodes, "foreign", taken, given, stored, doc_string="notes of somebody")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def _end(add, value, ends, nhwc, kind):
    """The last nodes; output -> its type."""
    if ends == "probabilities":
        add("Softmax", [value], "soft", axis=1)
        value = "soft"
    if ends == "sigmoid":
        add("Sigmoid", [value], "soft")
        value = "soft"
    if ends.startswith("labels"):
        add("ArgMax", [value], "out", axis=1, keepdims=int(ends == "labels4"))
        return [("out", TensorProto.INT64)]
    if nhwc:
        add("Transpose", [value], "last", perm=[0, 2, 3, 1])
        value = "last"
    kind = kind if kind != TensorProto.UINT8 else TensorProto.FLOAT
    add("Cast", [value], "out", to=kind)
    if ends == "two":
        add("Neg", [value], "aux")
        return [("out", kind), ("aux", TensorProto.FLOAT)]
    return [("out", kind)]
