"""Reads the file to import, with the input and outputs of its graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto
from onnx.inliner import inline_local_functions

from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.files import check_regular
from rtseg.core.registry import unknown_name

Layout = Literal["nchw", "nhwc"]
Side = int | None  # None: free

DTYPES: dict[int, np.dtype] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.UINT8: np.dtype(np.uint8),
}
_RANDOM = ("RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike", "Bernoulli", "Multinomial")
_MEDIAPIPE_OPS = ("Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "TransformTensorBilinear")
_HOW = {  # suffix of another format -> how to convert it to ONNX
    ".pt": "torch.onnx.export(model, …) writes it",
    ".pth": "torch.onnx.export(model, …) writes it",
    ".safetensors": "build the model and let torch.onnx.export write it; rtseg's own: rtseg export --checkpoint",
    ".pb": "tf2onnx writes it",
    ".h5": "tf2onnx writes it",
    ".keras": "tf2onnx writes it",
    ".xml": "the file that OpenVINO's IR was made of is wanted",
    ".engine": "the file that the TensorRT engine was made of is wanted",
}


@dataclass(frozen=True)
class Picture:
    """The graph's input.

    Attributes:
        name: of the tensor.
        dtype: float32, float16, float64 or uint8.
        channels_last: (N, H, W, 3) rather than (N, 3, H, W).
        batch: pictures per call; None for any number.
        height: None if it is free.
        width: the same.
    """

    name: str
    dtype: np.dtype
    channels_last: bool
    batch: Side
    height: Side
    width: Side

    def given(self, values: np.ndarray) -> np.ndarray:
        """(1, H, W, 3) scaled values -> the graph's input, in its layout, type and batch size."""
        laid = values if self.channels_last else values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(np.repeat(laid, self.batch or 1, axis=0), self.dtype)


@dataclass(frozen=True)
class Original:
    """A graph as read from the file, its input, and the output tensor to use."""

    path: Path
    model: onnx.ModelProto
    picture: Picture
    output: str

    @property
    def opset(self) -> int:
        return next((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def read_original(path: Path, layout: Layout | None = None, output: str | None = None) -> Original:
    """Reads an ONNX file with its external data.

    Args:
        path: ONNX file.
        layout: of the picture; needed if its shape is ambiguous.
        output: a tensor of the graph; needed if it has several outputs.

    Raises:
        WeightsError: the file is missing, or is not a readable ONNX file.
        UsageError: the file is of another kind, its input is not a picture, or the user must say more.
    """
    if path.suffix.lower() != ".onnx":
        how = _HOW.get(path.suffix.lower(), "rtseg import reads ONNX files")
        if path.suffix.lower() == ".tflite":
            how = _from_tflite(path)
        raise UsageError(f"{path} is not an ONNX file: {how}")
    if not path.is_file():
        raise WeightsError(f"no such file: {path}")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and onnx's exceptions differ between versions
        said = " ".join(str(error).split())[:300]
        raise WeightsError(f"{path} cannot be read: {said}; external data must lie beside it") from error
    if not model.graph.node:
        raise WeightsError(f"{path} holds no graph: it is damaged, or no ONNX file")
    if model.functions:
        model = inline_local_functions(model)
    _refuse_training(model.graph)
    return Original(path, model, _picture(model.graph, layout), _output(model.graph, output))


def _from_tflite(path: Path) -> str:
    """How to convert a TFLite file to ONNX, or why it cannot be converted."""
    try:
        data = check_regular(path).read_bytes()
    except OSError:
        data = b""
    if own := [name for name in _MEDIAPIPE_OPS if name.encode() in data]:
        return (f"it has operators of MediaPipe's own ({', '.join(own)}), which nothing else runs: the network that it "
                "was made of is wanted")  # fmt: skip
    return (f"python -m tf2onnx.convert --tflite {quote(str(path))} --output net.onnx writes one (pip install tf2onnx "
            "tensorflow)")  # fmt: skip


def _refuse_training(graph: onnx.GraphProto) -> None:
    """Raises UsageError if the graph's labels are random: it was exported in training mode."""
    for node in graph.node:
        switched = any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
        if switched or node.op_type in _RANDOM:
            raise UsageError(f"the graph was exported as the network is trained, for it has a {node.op_type}: call "
                             "model.eval() before torch.onnx.export, on the outermost module too")  # fmt: skip


def _picture(graph: onnx.GraphProto, layout: Layout | None) -> Picture:
    stored = {tensor.name for tensor in graph.initializer}  # old files list weights among the inputs
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(shown(value) for value in inputs) or "none"
        raise UsageError(f"the graph takes {len(inputs)} inputs ({names}); a network that labels pictures takes one: "
                         "export it with the picture as its only input")  # fmt: skip
    value, kind = inputs[0], inputs[0].type.tensor_type
    sides = _sides(value)
    if kind.elem_type not in DTYPES or len(sides) != 4:
        types = ", ".join(str(dtype) for dtype in DTYPES.values())
        raise UsageError(f"the graph takes {shown(value)}; it must be a batch of pictures, (N, 3, H, W) or "
                         f"(N, H, W, 3) of {types}")  # fmt: skip
    channels_last = _channels_last(sides, layout, shown(value))
    batch, height, width = (sides[0], *sides[1:3]) if channels_last else (sides[0], *sides[2:])
    return Picture(value.name, DTYPES[kind.elem_type], channels_last, batch, height, width)


def _channels_last(sides: list[Side], layout: Layout | None, described: str) -> bool:
    """Raises UsageError if the shape is ambiguous or contradicts `layout`."""
    may_be = [name for name, side in (("nchw", sides[1]), ("nhwc", sides[3])) if side in (3, None)]
    if not may_be:
        raise UsageError(f"the graph takes {described}: it must be pictures of three channels, (N, 3, H, W) or "
                         "(N, H, W, 3)")  # fmt: skip
    known = [name for name, side in (("nchw", sides[1]), ("nhwc", sides[3])) if side == 3]
    if layout is not None:
        if layout not in (known or may_be):
            raise UsageError(f"--layout {layout} does not fit the graph, which takes {described}: that is "
                             f"{(known or may_be)[0]}, so leave --layout out")  # fmt: skip
        return layout == "nhwc"
    if len(known) != 1:
        raise UsageError(f"the graph takes {described}, which does not say where the colours are: give --layout nchw "
                         "or --layout nhwc")  # fmt: skip
    return known == ["nhwc"]


def _output(graph: onnx.GraphProto, wanted: str | None) -> str:
    listed = ", ".join(shown(value) for value in graph.output)
    if wanted is None:
        if len(graph.output) != 1:
            raise UsageError(f"the graph gives {len(graph.output)} outputs, and only you know which are the classes: "
                             f"give --output-name with one of {listed}")  # fmt: skip
        return str(graph.output[0].name)
    tensors = [str(name) for node in graph.node for name in node.output if name]
    if wanted not in tensors:
        error = unknown_name("output", wanted, [value.name for value in graph.output])
        raise UsageError(f"{error}; --output-name may also be a tensor inside the graph")
    return wanted


def shown(value: onnx.ValueInfoProto) -> str:
    """'pixel_values float (batch, 3, 512, 512)'."""
    kind = value.type.tensor_type
    sides = ", ".join(axis.dim_param or str(axis.dim_value or "?") for axis in kind.shape.dim)
    shape = f" ({sides})" if kind.HasField("shape") else ""
    return f"{value.name} {TensorProto.DataType.Name(kind.elem_type).lower()}{shape}"


def _sides(value: onnx.ValueInfoProto) -> list[Side]:
    return [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]


def inner_names(node: onnx.NodeProto) -> Iterator[str]:
    """Every tensor that a node reads, including inside the graphs of If, Loop and Scan."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from inner_names(inner)
            yield from (value.name for value in graph.output)
