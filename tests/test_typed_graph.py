"""The graph that TensorRT gets: types, rounding and shapes, computed by onnxruntime on the CPU."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.core.card import Card
from rtseg.core.errors import WeightsError
from rtseg.engines.onnxruntime_engine import open_session
from rtseg.engines.tensorrt.fixed_graph import fix_shape, tensor_types
from rtseg.engines.tensorrt.half import to_half
from rtseg.engines.tensorrt.qdq import quantise_for_tensorrt, round_weights, symmetric_scale
from rtseg.engines.tensorrt.sensitivity import emulate, measure_sensitivity
from rtseg.engines.tensorrt.typed_graph import typed_graph
from rtseg.int8.calibrate import measure_ranges
from rtseg.int8.fold import load_float_graph
from rtseg.int8.quantise import carried, quantised_tensors
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes import StreetScene

SIZE = (96, 160)
WEIGHTS = Path(__file__).parents[1] / "weights"


@pytest.fixture(scope="module")
def frames():
    return [StreetScene(SIZE, seed=seed).render(0)[0] for seed in range(3)]


@pytest.fixture(scope="module")
def ranges(networks, frames):
    graph = load_float_graph(networks / "icnet.onnx")
    return measure_ranges(graph, quantised_tensors(graph), frames)


@pytest.fixture(scope="module")
def int8(networks, ranges):
    return typed_graph(networks / "icnet.onnx", "int8", SIZE, ranges)


def logits_of(path, image):
    return open_session(path, image.shape[:2], 1).run(None, {"image": image[None]})[0][0]


@pytest.mark.parametrize(
    ("model", "precision", "error"),
    [
        ("icnet", "fp32", 1e-4),
        ("icnet", "fp16", 5e-3),
        ("enet", "fp32", 1e-4),
        ("enet", "fp16", 0.1),  # a near tie in a pooling window moves the unpooled value by one pixel
    ],
)
def test_the_typed_graph_computes_the_same(networks, frames, model, precision, error):
    graph = typed_graph(networks / f"{model}.onnx", precision, SIZE)
    onnx.checker.check_model(graph.model)
    expected = logits_of(networks / f"{model}.onnx", frames[0])
    made = emulate(graph.model)(frames[0])
    assert made.shape == expected.shape
    assert np.linalg.norm(made - expected) < error * np.linalg.norm(expected)


@pytest.mark.parametrize("model", ["icnet", "enet"])
def test_every_shape_is_fixed_and_every_node_named_once(networks, model):
    graph = fix_shape(networks / f"{model}.onnx", SIZE).graph
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert all(names)
    assert [axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim] == [1, *SIZE, 3]
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {
        "BatchNormalization",
        "Shape",
        "Range",
        "Mod",
        "Div",
        "Where",
        "If",
        "Loop",
    }  # arithmetic on shapes is gone
    made = {value.name for value in (*graph.value_info, *graph.output)}
    assert {name for node in graph.node for name in node.output} <= made


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_picture_is_cast_at_once_and_flipped_by_gather(networks, precision):
    model = typed_graph(networks / "icnet.onnx", precision, SIZE).model
    types = tensor_types(model)
    bytes_read = [
        node.op_type for node in model.graph.node if any(types.get(n) == TensorProto.UINT8 for n in node.input)
    ]
    assert bytes_read == ["Cast"]
    flips = [node for node in model.graph.node if node.op_type == "Gather"]
    orders = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    assert [orders[node.input[1]] for node in flips] == [[2, 1, 0]]


@pytest.mark.parametrize("model", ["icnet", "enet"])
def test_fp16_holds_everywhere_but_in_normalisation_and_pooling_matrices(networks, model):
    graph = typed_graph(networks / f"{model}.onnx", "fp16", SIZE)
    types = tensor_types(graph.model)
    single = set()
    for node in graph.model.graph.node:
        floats = [types[name] for name in node.input if types.get(name) in (TensorProto.FLOAT, TensorProto.FLOAT16)]
        if node.op_type in ("Cast", "Resize"):
            continue
        assert len(set(floats)) <= 1, f"{node.name} mixes types: a strongly typed network refuses that"
        if floats and floats[0] == TensorProto.FLOAT:
            single.add(node.op_type)
    assert single <= {"Transpose", "Gather", "Sub", "Mul", "MatMul"}
    assert ("MatMul" in single) == (model == "icnet")
    assert types[graph.model.graph.output[0].name] == TensorProto.FLOAT16
    assert {entry.precision for entry in graph.convolutions.values()} == {"fp16"}


def test_a_node_can_be_kept_in_fp32(networks, frames):
    last = list(typed_graph(networks / "icnet.onnx", "fp16", SIZE).convolutions)[-1]
    graph = typed_graph(networks / "icnet.onnx", "fp16", SIZE, keep=[last])
    assert graph.convolutions[last].precision == "fp32"
    assert tensor_types(graph.model)[graph.model.graph.output[0].name] == TensorProto.FLOAT
    assert np.isfinite(emulate(graph.model)(frames[0])).all()
    with pytest.raises(WeightsError, match="no node 'nothing'"):
        typed_graph(networks / "icnet.onnx", "fp16", SIZE, keep=["nothing"])


def test_a_weight_that_fp16_cannot_hold_is_told(networks):
    model = fix_shape(networks / "icnet.onnx", SIZE)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] = 1e6
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    with pytest.raises(WeightsError, match=r"1e\+06.*--precision fp32"):
        to_half(model)


def test_what_is_no_graph_is_told(tmp_path):
    (tmp_path / "text.onnx").write_text("this is not ONNX")
    with pytest.raises(WeightsError, match=r"text\.onnx"):
        fix_shape(tmp_path / "text.onnx", SIZE)


def test_rounding_is_signed_around_zero_with_a_scale_per_channel(int8):
    graph = int8.model.graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = 0
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = arrays[node.input[1]], arrays[node.input[2]]
        assert (scale.dtype, zero.dtype) == (np.float16, np.int8)
        assert not zero.any()
        assert scale.min() >= 2.0**-14
        if node.input[0] in arrays:
            rounded = arrays[node.input[0]]
            assert scale.shape == (len(rounded),)
            assert np.abs(rounded.astype(int)).max() == 127
            weights += 1
    assert weights == sum(entry.precision == "int8" for entry in int8.convolutions.values()) == 61
    for node in graph.node:  # a bias stays a float, with the type of the rest
        if node.op_type == "Conv" and len(node.input) > 2:
            assert arrays[node.input[2]].dtype == np.float16


def test_a_sum_ends_its_convolution_without_rounding_in_between(int8):
    made_by = {name: node for node in int8.model.graph.node for name in node.output}
    residual = [node for node in int8.model.graph.node if node.op_type == "Add"]
    sides = [sorted(made_by[name].op_type for name in node.input) for node in residual]
    assert sides.count(["Conv", "DequantizeLinear"]) >= 16  # every block of the ResNet, and the fusions


@pytest.mark.slow
def test_int8_gives_nearly_the_labels_of_fp32():
    """With trained weights, measured like the gate: an untrained network has near ties everywhere."""
    card = Card.load(WEIGHTS / "icnet.json")
    size = card.train_size
    run = emulate(typed_graph(WEIGHTS / "icnet.onnx", "int8", size, card.activation_ranges).model)
    for seed in range(2):
        image = StreetScene(size, seed=seed).render(40)[0]
        expected = upsample_labels(logits_of(WEIGHTS / "icnet.onnx", image), size)
        assert (upsample_labels(run(image), size) == expected).mean() >= 0.975


def test_convolutions_can_be_kept_in_fp16(networks, ranges, int8):
    worst = [name for name, entry in int8.convolutions.items() if entry.precision == "int8"][:2]
    graph = typed_graph(networks / "icnet.onnx", "int8", SIZE, ranges, keep=worst)
    assert [graph.convolutions[name].precision for name in worst] == ["fp16", "fp16"]
    assert sum(entry.precision == "int8" for entry in graph.convolutions.values()) == 59


def test_a_missing_range_is_told(networks, ranges):
    some = dict(list(ranges.items())[1:])
    with pytest.raises(WeightsError, match="no activation range for"):
        quantise_for_tensorrt(fix_shape(networks / "icnet.onnx", SIZE), some)


def test_pooling_has_the_range_of_what_it_pools():
    nodes = [
        helper.make_node("MaxPool", ["a"], ["pooled"], kernel_shape=[2, 2]),
        helper.make_node("Resize", ["pooled"], ["larger"]),
        helper.make_node("Relu", ["a"], ["other"]),
        helper.make_node("AveragePool", ["a"], ["measured"], kernel_shape=[2, 2]),
    ]
    graph = helper.make_graph(nodes, "pools", [], [])
    ranges = {"a": (-1.0, 6.0), "measured": (0.0, 2.0)}
    assert carried(graph, ranges) == {**ranges, "pooled": (-1.0, 6.0), "larger": (-1.0, 6.0)}


@pytest.mark.parametrize(("low", "high", "reach"), [(0.0, 6.0, 6.0), (-3.0, 1.0, 3.0), (0.0, 0.0, 127 * 2.0**-14)])
def test_the_scale_reaches_the_larger_end(low, high, reach):
    scale = symmetric_scale(low, high)
    assert scale == np.float16(scale)
    assert 127 * scale == pytest.approx(reach, rel=1e-3)


def test_weights_are_rounded_with_the_scale_that_is_written():
    weight = np.random.default_rng(0).normal(0, [[[[1e-6]]], [[[0.1]]], [[[30.0]]]], (3, 8, 3, 3)).astype(np.float32)
    rounded, scale = round_weights(weight)
    assert (scale == scale.astype(np.float16)).all()
    assert np.abs(rounded * scale[:, None, None, None] - weight).max(axis=(1, 2, 3)) == pytest.approx(
        [np.abs(weight[0]).max(), scale[1] / 2, scale[2] / 2], rel=0.05
    )


def test_the_cost_of_convolutions_is_that_of_the_card(networks):
    """The card counts the torch network before export."""
    for name in ("icnet", "enet"):
        card = Card.load(WEIGHTS / f"{name}.json")
        macs = sum(
            entry.macs for entry in typed_graph(WEIGHTS / f"{name}.onnx", "fp32", (256, 512)).convolutions.values()
        )
        assert macs * 16 / 1e9 == pytest.approx(card.gmac_1024x2048, rel=0.01)


def test_the_sensitive_convolution_is_found(networks, ranges, frames):
    """A range that is far too small makes one convolution's input useless: that one must lead the list."""
    model = fix_shape(networks / "icnet.onnx", SIZE)
    graph = typed_graph(networks / "icnet.onnx", "int8", SIZE, ranges)
    names = [name for name, entry in graph.convolutions.items() if entry.precision == "int8"]
    bad = names[3]
    tensor = next(node.input[0] for node in model.graph.node if node.name == bad)
    found = measure_sensitivity(networks / "icnet.onnx", {**ranges, tensor: (0.0, 1e-3)}, frames[:1])
    assert sorted(entry.convolution for entry in found) == sorted(names)
    readers = [node.name for node in model.graph.node if tensor in node.input]
    assert found[0].convolution in readers
    assert found[0].error > 2 * found[len(readers)].error
