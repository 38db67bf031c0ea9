"""torch -> ONNX: one file that serves every input size and is also the checkpoint.

- Height and width are free dimensions named 'height' and 'width'; an engine fixes them when it loads the file, which
  turns all arithmetic on shapes into constants.
- The initialisers are the network's parameters and buffers, named like its state-dict keys. Convolution weights are
  stored as float16 behind a cast to float32, which engines fold; batch norms stay separate operators, which engines
  fuse.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnxscript import optimizer
from torch import nn
from torch.export import Dim

from rtseg.core.errors import UsageError
from rtseg.models.base import SegmentationModel
from rtseg.models.deploy import DeployGraph, ExitsGraph
from rtseg.models.weights import may_lack

OPSET = 18
INPUT, AXES = "image", ("N", "height", "width")
METADATA_KEY = "rtseg"
_PREFIX = "model."  # DeployGraph's name for the network


def is_half(name: str, weight: Any) -> bool:
    """Whether a parameter is stored as float16, as convolution weights are: nearly all of a network's bytes."""
    return name.endswith(".weight") and len(weight.shape) == 4


def round_weights(model: nn.Module) -> None:
    """Rounds a network's weights in place to values that the ONNX file can hold."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_half(name, parameter):
                parameter.copy_(parameter.half().float())


def export_graph(model: SegmentationModel, path: Path, metadata: dict[str, Any], output: str = "logits") -> None:
    """Writes the deployment graph of a network as ONNX.

    Args:
        model: the network; switched to evaluation mode.
        path: the file to write.
        metadata: stored as JSON in the file's metadata.
        output: 'logits' (float32, coarse) or 'labels' (uint8 at the input's size).

    Raises:
        UsageError: one of the network's weights would be missing in the file.
    """
    proto = build_graph(DeployGraph(model, output), [output])
    save_graph(proto, path, {**metadata, "output": output})


def save_graph(proto: onnx.ModelProto, path: Path, metadata: dict[str, Any]) -> None:
    """Checks that a graph is valid ONNX and writes it with its metadata."""
    helper.set_model_props(proto, {METADATA_KEY: json.dumps(metadata)})
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def build_graph(graph: DeployGraph | ExitsGraph, outputs: list[str]) -> onnx.ModelProto:
    """Exports a network and its pre-processing as ONNX.

    Args:
        graph: the network; switched to evaluation mode.
        outputs: names of its outputs.

    Raises:
        UsageError: one of the network's weights would be missing in the file.
    """
    model = graph.model
    program = _trace(graph.eval(), model.size_multiple, outputs)
    parameters = {_PREFIX + name for name in model.state_dict()}

    def may_fold(node: Any) -> bool | None:
        """Parameters keep their names; only their shapes may be folded."""
        reads = {value.name for value in node.inputs if value is not None}
        return False if node.op_type != "Shape" and reads & parameters else None

    optimizer.fold_constants(program.model, should_fold=may_fold)
    optimizer.remove_unused_nodes(program.model)
    proto: onnx.ModelProto = program.model_proto
    _clean(proto)
    _name_axes(proto)
    _drop_zero_biases(proto.graph)
    _fold_padding(proto.graph)
    _name_parameters(proto.graph, model)
    return proto


def _trace(graph: nn.Module, multiple: int, outputs: list[str]) -> Any:
    """Exports with free sizes, which must be multiples of the network's."""
    example = torch.zeros(2, 4 * multiple, 6 * multiple, 3, dtype=torch.uint8)
    count, rows, columns = Dim("N", min=1, max=64), Dim("rows", min=1, max=1024), Dim("columns", min=1, max=1024)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # meant for the exporter's developers
            program = torch.onnx.export(
                graph, (example,), dynamo=True, verbose=False, optimize=False, opset_version=OPSET,
                input_names=[INPUT], output_names=outputs,
                dynamic_shapes=({0: count, 1: multiple * rows, 2: multiple * columns},),
            )  # fmt: skip
    finally:
        log.setLevel(level)
    return program


def _clean(proto: onnx.ModelProto) -> None:
    """Drops the exporter's notes (including source paths), so that equal weights yield equal files."""
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    proto.doc_string = proto.graph.doc_string = ""
    graph = proto.graph
    for item in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
        item.doc_string = ""


def _name_axes(proto: onnx.ModelProto) -> None:
    for axis, name in enumerate(AXES):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    for output in proto.graph.output:
        shape = output.type.tensor_type.shape.dim
        shape[0].dim_param = AXES[0]
        for axis, name in zip(shape[-2:], AXES[1:], strict=True):
            axis.dim_param = f"{output.name}_{name}"


def _drop_zero_biases(graph: onnx.GraphProto) -> None:
    """Removes the zero biases that the exporter adds to convolutions."""
    constants = (tensor for tensor in graph.initializer if not tensor.name.startswith(_PREFIX))
    zeros = {tensor.name for tensor in constants if not numpy_helper.to_array(tensor).any()}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]


def _fold_padding(graph: onnx.GraphProto) -> None:
    """Moves constant zero padding into the convolution that reads it: ONNX allows uneven padding there."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad" and node.input[1] in constants}
    for node in graph.node:
        pad = pads.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or any(float(constants[name]) for name in pad.input[2:3] if name):
            continue
        before, after = np.split(constants[pad.input[1]], 2)
        own = next(attribute for attribute in node.attribute if attribute.name == "pads")
        if not before[:2].any() and not after[:2].any():  # height and width only
            own.ints[:] = [int(a + b) for a, b in zip(own.ints, [*before[2:], *after[2:]], strict=True)]
            node.input[0] = pad.input[0]
    read = {name for node in graph.node for name in node.input}
    for pad in pads.values():
        if pad.output[0] not in read:
            graph.node.remove(pad)


def _name_parameters(graph: onnx.GraphProto, model: SegmentationModel) -> None:
    """Turns the initialisers into the state dict: its keys, convolution weights as float16, nothing else."""
    state = {_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    used = {name for node in graph.node for name in node.input}
    initialisers, first, renamed = [], [], {}
    for tensor in graph.initializer:
        if tensor.name not in used:
            continue
        if tensor.name not in state:
            first.append(helper.make_node("Constant", [], [tensor.name], tensor.name, value=tensor))
            continue
        name, array = tensor.name.removeprefix(_PREFIX), state[tensor.name].detach().cpu().numpy()
        renamed[tensor.name] = name
        if is_half(name, array):
            renamed[tensor.name] = f"{name}.fp32"
            first.append(helper.make_node("Cast", [name], [f"{name}.fp32"], f"{name}.cast", to=onnx.TensorProto.FLOAT))
            array = array.astype(np.float16)
        initialisers.append(numpy_helper.from_array(array, name))
    lost = [name for name in state if name not in renamed and not may_lack(name.removeprefix(_PREFIX))]
    if lost:
        raise UsageError(
            f"this network cannot be exported: {lost[0].removeprefix(_PREFIX)} takes no part in its inference or is "
            "merged with another weight, and the file could not serve as a checkpoint"
        )
    nodes = [*first, *graph.node]
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initialisers)
