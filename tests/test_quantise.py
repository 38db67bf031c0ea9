from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny import network_file

from rtseg.apps import compile as app
from rtseg.core.card import Card
from rtseg.core.errors import ParityError, UsageError, WeightsError
from rtseg.core.zoo import Artifact
from rtseg.engines import EngineOptions, load_engine
from rtseg.engines.onnxruntime_engine import open_session
from rtseg.int8.calibrate import measure_ranges
from rtseg.int8.fold import load_float_graph
from rtseg.int8.quantise import WEIGHT_LIMIT, QuantizationPlan, quantise, quantise_range, quantised_tensors
from rtseg.scenes import StreetScene

pytestmark = pytest.mark.slow

SIZE = (128, 224)


@pytest.fixture(scope="module")
def frames():
    return [StreetScene(SIZE, seed=seed).render(0)[0] for seed in range(3)]


@pytest.fixture(scope="module")
def ranges(networks, frames):
    graph = load_float_graph(networks / "icnet.onnx")
    return measure_ranges(graph, quantised_tensors(graph), frames)


@pytest.fixture(scope="module")
def int8(networks, ranges, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "icnet.int8.onnx"
    quantise(networks / "icnet.onnx", ranges, path)
    return path


def run(model, image):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image[None]})[0][0]


@pytest.mark.parametrize("name", ["icnet", "enet"])
def test_the_float_graph_computes_the_same(networks, frames, name):
    graph = load_float_graph(networks / f"{name}.onnx")
    kinds = {node.op_type for node in graph.graph.node}
    assert ("BatchNormalization" in kinds) == (name == "enet")  # one of ENet's follows a concatenation
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.graph.initializer)
    expected = run(networks / f"{name}.onnx", frames[0])
    made = run(graph.SerializeToString(), frames[0])
    assert (made.argmax(0) == expected.argmax(0)).mean() > 0.999


def test_a_relu6_is_part_of_its_convolution(networks):
    """The value between the two is not rounded: most of its range is cut off."""
    graph = load_float_graph(network_file(networks, "swiftnet"))
    clipped = {node.input[0] for node in graph.graph.node if node.op_type == "Clip"}
    behind = {node.output[0] for node in graph.graph.node if node.op_type == "Clip"}
    rounded = set(quantised_tensors(graph))
    assert len(clipped) > 20
    assert not clipped & rounded
    assert len(behind & rounded) > 20


def test_the_first_block_of_a_mobile_trunk_stays_in_float(networks):
    graph = load_float_graph(network_file(networks, "swiftnet"))
    integer = {node.input[1] for node in QuantizationPlan(graph).convolutions}
    encoder = [node.input[1] for node in graph.graph.node if node.op_type == "Conv" and "encoder" in node.input[1]]
    assert [name for name in encoder if name not in integer] == encoder[:3]  # the picture's, depthwise, projection


def test_ranges_hold_nearly_all_values(networks, frames, ranges):
    graph = load_float_graph(networks / "icnet.onnx")
    assert list(ranges) == quantised_tensors(graph)
    relus = [node.output[0] for node in graph.graph.node if node.op_type == "Relu" and node.output[0] in ranges]
    assert len(relus) > 40
    assert all(ranges[name][0] == 0 < ranges[name][1] for name in relus)
    one = measure_ranges(graph, relus[:3], frames[:1])
    assert all(one[name][1] <= ranges[name][1] for name in one)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 3.0), (-5.0, -1.0), (2.0, 9.0), (0.0, 0.0)])
def test_zero_is_exact_and_the_range_is_covered(low, high):
    scale, zero = quantise_range(low, high)
    assert (scale.dtype, zero.dtype, scale.shape) == (np.float32, np.uint8, ())
    reach = (np.array([0, 255]) - int(zero)) * float(scale)
    assert reach[0] <= min(low, 0) + float(scale)
    assert reach[1] >= max(high, 0) - float(scale)


def test_weights_are_seven_bits_with_a_scale_per_channel(int8):
    graph = onnx.load(int8).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {name: array for name, array in arrays.items() if array.dtype == np.int8 and array.ndim == 4}
    assert len(weights) == 61  # of 64: two read the picture, one gives the logits
    for name, array in weights.items():
        limits = np.abs(array.reshape(len(array), -1).astype(int)).max(1)
        assert limits.max() <= WEIGHT_LIMIT
        assert (limits == WEIGHT_LIMIT).mean() > 0.9  # every channel uses its range
        assert arrays[name.removesuffix(".q") + ".scale"].shape == (len(array),)


@pytest.mark.parametrize("size", [SIZE, (96, 160)])
def test_one_int8_file_serves_every_size(networks, int8, size):
    image = StreetScene(size, seed=8).render(3)[0][None]
    expected, made = (
        open_session(path, size, 1).run(None, {"image": image})[0] for path in (networks / "icnet.onnx", int8)
    )
    assert made.shape == expected.shape
    assert np.abs(made - expected).mean() < 0.05 * np.abs(expected).mean()
    assert (made.argmax(1) == expected.argmax(1)).mean() > 0.9  # untrained: many near ties


def test_convolutions_run_on_integers(int8, tmp_path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    for axis, length in {"N": 1, "height": 128, "width": 224}.items():
        options.add_free_dimension_override_by_name(axis, length)
    ort.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 61
    assert kinds.count("Conv") == 3


def test_the_card_is_enough_to_make_it_again(networks, ranges, int8, tmp_path):
    card = Card.load(networks / "icnet.json")
    from dataclasses import replace

    replace(card, activation_ranges=ranges).save(tmp_path / "icnet.json")
    kept = Card.load(tmp_path / "icnet.json").activation_ranges
    quantise(networks / "icnet.onnx", kept, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == int8.read_bytes()


def test_a_missing_range_is_told(networks, ranges, tmp_path):
    some = dict(list(ranges.items())[:-1])
    with pytest.raises(WeightsError, match="no activation range for"):
        quantise(networks / "icnet.onnx", some, tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


class TestCommand:
    @pytest.fixture
    def folder(self, networks, frames, tmp_path):
        """A network of the user's own, and pictures."""
        for name in ("icnet.onnx", "icnet.json"):
            (tmp_path / name).write_bytes((networks / name).read_bytes())
        (tmp_path / "pictures").mkdir()
        for index, frame in enumerate(frames):
            cv2.imwrite(str(tmp_path / "pictures" / f"{index}.png"), frame)
        return tmp_path

    def test_pictures_then_none(self, folder, frames, capsys):
        model = str(folder / "icnet.onnx")
        with pytest.raises(UsageError, match="no activation ranges: give --data and --root, or --frames"):
            app.command(app.CompileOptions(model=model))
        app.command(app.CompileOptions(model=model, frames=folder / "pictures"))
        assert "not measured" in capsys.readouterr().out
        card = Card.load(folder / "icnet.json")
        with load_engine("onnxruntime", Artifact(card, folder), EngineOptions(SIZE, "int8")) as engine:
            assert engine.info.precision == "int8"
            assert np.isfinite(engine.infer(frames[0])).all()
        first = (folder / "icnet.int8.onnx").read_bytes()
        (folder / "icnet.int8.onnx").unlink()
        app.command(app.CompileOptions(model=model))
        assert (folder / "icnet.int8.onnx").read_bytes() == first

    def test_options_of_another_engine_are_refused(self):
        for name, value in {"report": Path("a.json"), "keep_worst": 3, "tf32": True}.items():
            with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is for TensorRT engines"):
                app.CompileOptions(**{name: value})

    def test_calibration_takes_few_pictures_of_a_long_source(self, folder, frames):
        for index in range(len(frames), 200):
            cv2.imwrite(str(folder / "pictures" / f"{index:04d}.png"), frames[index % len(frames)])
        options = app.CompileOptions(model=str(folder / "icnet.onnx"), frames=folder / "pictures")
        assert 16 < len(app.calibration_pictures(options, SIZE)) <= 32
        with pytest.raises(UsageError, match="has no end"):
            app.calibration_pictures(app.CompileOptions(frames=Path("synthetic")), SIZE)

    def test_a_loss_that_is_too_large_is_refused(self, folder, monkeypatch, capsys):
        monkeypatch.setattr(
            app, "score", lambda artifact, precision, options: {"miou": 0.61 - 0.01 * (precision == "int8")}
        )
        monkeypatch.setattr("rtseg.datasets.scenes._SEEDS", {"train": (0, 1), "val": (0, 1)})
        options = {"model": str(folder / "icnet.onnx"), "data": "scenes", "size": "128x224"}
        with pytest.raises(ParityError, match=r"fp32 0\.6100, int8 0\.6000, lost 0\.0100; 0\.005 is allowed"):
            app.command(app.CompileOptions(**options))
        assert not (folder / "icnet.int8.onnx").exists()
        assert "int8" not in Card.load(folder / "icnet.json").files
        app.command(app.CompileOptions(**options, force=True))
        assert "kept because of --force" in capsys.readouterr().out
        card = Card.load(folder / "icnet.json")
        assert card.metrics["int8"] == {"scenes/val": {"miou": 0.6, "fp32_miou": 0.61, "lost": 0.01}}
        assert "int8" in card.files
