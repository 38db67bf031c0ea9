import json
import re
from collections import Counter
from hashlib import sha256

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from tiny import EXPORTED, SMALL, lively, network_file, register_tiny

from rtseg.apps import export as app
from rtseg.core.card import Card
from rtseg.core.errors import OutputError, ParityError, UsageError, WeightsError
from rtseg.core.files import file_sha256
from rtseg.core.labels import CAMVID11
from rtseg.core.zoo import Artifact
from rtseg.engines.onnxruntime_engine import open_session
from rtseg.engines.trial import first_run
from rtseg.export import network as network_module
from rtseg.export.network import export_labels, export_network
from rtseg.export.onnx import round_weights
from rtseg.export.parity import check_parity, street_frames
from rtseg.models import build_model
from rtseg.models.base import count_inference_parameters
from rtseg.models.deploy import DeployGraph
from rtseg.models.weights import load_network, load_state_dict, may_lack, restore

pytestmark = pytest.mark.slow

REAL = pytest.mark.parametrize("name", EXPORTED)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The tiny network's folder and artifact."""
    folder = tmp_path_factory.mktemp("exported")
    return export_network(
        lively("tiny"), "mine", CAMVID11, folder, train_size=(96, 128), engine_order=("onnxruntime", "torch"),
        metrics={"fp32": {"camvid/val": {"miou": 0.5}}}, recipe={"epochs": 3}, data_terms="none",
    )  # fmt: skip


@REAL
def test_sizes_are_free_and_named(networks, name):
    graph = onnx.load(network_file(networks, name)).graph
    image, logits = graph.input[0], graph.output[0]
    assert [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim] == [
        "N",
        "height",
        "width",
        3,
    ]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    names = [axis.dim_param or axis.dim_value for axis in logits.type.tensor_type.shape.dim]
    assert names == ["N", 11, "logits_height", "logits_width"]


@REAL
def test_several_pictures_at_once_give_what_each_gives(networks, name):
    session = ort.InferenceSession(network_file(networks, name), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    together = session.run(None, {"image": images})[0]
    for image, logits in zip(images, together, strict=True):
        alone = session.run(None, {"image": image[None]})[0][0]
        np.testing.assert_allclose(logits, alone, atol=1e-3 * np.abs(alone).max())


def test_uneven_padding_is_inside_the_convolutions(networks):
    graph = onnx.load(network_file(networks, "swiftnet")).graph
    pads = [list(a.ints) for node in graph.node if node.op_type == "Conv" for a in node.attribute if a.name == "pads"]
    assert not any(node.op_type == "Pad" for node in graph.node)
    assert [found for found in pads if found[:2] != found[2:]] == [
        [0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 2, 2], [0, 0, 1, 1], [1, 1, 2, 2],
    ]  # fmt: skip


def test_the_card_says_how_pictures_are_scaled(networks):
    card = Card.load(network_file(networks, "swiftnet").with_suffix(".json"))
    assert card.normalisation == {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    older = card.to_json()
    del older["normalisation"]
    assert Card.from_json(older).normalisation == {}


@REAL
def test_initialisers_are_the_state_dict(networks, name):
    own = build_model(name, SMALL[name]).state_dict()
    found = {tensor.name: tensor for tensor in onnx.load(network_file(networks, name)).graph.initializer}
    assert set(found) == {key for key in own if not may_lack(key)}
    kinds = Counter(tensor.data_type for key, tensor in found.items() if own[key].dim() == 4)
    assert set(kinds) == {onnx.TensorProto.FLOAT16}


@REAL
def test_fixing_the_size_folds_all_shape_arithmetic(networks, name, tmp_path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    for axis, length in {"N": 1, "height": 128, "width": 224}.items():
        options.add_free_dimension_override_by_name(axis, length)
    ort.InferenceSession(network_file(networks, name), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert not {"Shape", "Range", "Less", "And", "Div", "Constant"} & set(kinds)
    assert kinds["BatchNormalization"] == (1 if name.startswith("enet") else 0)  # ENet's first follows a concatenation
    if name == "icnet":
        assert sum(kinds.values()) < 110  # 98 with layouts for AVX-512, as in a fixed-size export
        assert kinds["Conv"] == 64


@REAL
def test_the_file_is_small_and_tells_nothing_of_where_it_was_made(networks, name):
    path = network_file(networks, name)
    content = path.read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
    weights = sum(tensor.numel() for tensor in build_model(name, SMALL[name]).state_dict().values())
    assert len(content) < 2.4 * weights + 150_000


@REAL
def test_the_card_says_what_the_file_is(networks, name):
    card = Card.load(network_file(networks, name).with_suffix(".json"))
    model = build_model(name, SMALL[name])
    path = network_file(networks, name)
    entry = card.files["fp32"]
    assert (entry.file, entry.bytes) == (path.name, path.stat().st_size)
    assert entry.sha256 == file_sha256(path) == sha256(path.read_bytes()).hexdigest()
    assert card.parameters == count_inference_parameters(model)
    assert (card.size_multiple, card.logits_stride) == (model.size_multiple, model.logits_stride)
    assert card.labels == CAMVID11
    stored = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    about = json.loads(stored["rtseg"])
    assert (about["name"], about["model"], about["output"]) == (name, name, "logits")
    assert about["labels"]["names"] == list(CAMVID11.names)
    assert about["input"] == "uint8 BGR (N, height, width, 3)"


def test_the_card_keeps_what_it_was_given(exported):
    card = Card.load(exported.folder / "mine.json")
    assert card == exported.card
    assert (card.train_size, card.engine_order) == ((96, 128), ("onnxruntime", "torch"))
    assert (card.figures(), card.recipe, card.data_terms) == ({"camvid/val": {"miou": 0.5}}, {"epochs": 3}, "none")


@REAL
def test_the_file_is_the_checkpoint(networks, name):
    restored = load_network(Artifact(Card.load(network_file(networks, name).with_suffix(".json")), networks))
    made_from = lively(name, SMALL[name])
    round_weights(made_from)
    expected = {key: value for key, value in made_from.state_dict().items() if not may_lack(key)}
    assert all(torch.equal(restored.state_dict()[key], value) for key, value in expected.items())
    assert not restored.training


def test_weights_that_do_not_fit_are_told(networks):
    weights = load_state_dict(networks / "icnet.onnx")
    model = build_model("icnet", SMALL["icnet"])
    before = model.auxiliary_low.weight.clone()
    restore(model, weights, "x")  # without auxiliary classifiers
    assert torch.equal(model.auxiliary_low.weight, before)
    with pytest.raises(WeightsError, match=r"x does not fit ICNet.* as \(8, 3, 3, 3\) instead of \(32, 3, 3, 3\)"):
        restore(build_model("icnet", {}), weights, "x")
    with pytest.raises(WeightsError, match="lacks initial"):
        restore(build_model("enet", {}), weights, "x")
    with pytest.raises(WeightsError, match="has extra, which is not in the network"):
        restore(model, {**weights, "extra": torch.zeros(1)}, "x")


def test_a_file_that_is_no_onnx_is_told(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"a\.onnx is not an ONNX file"):
        load_state_dict(path)


def test_exporting_leaves_the_network_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(network_module, "export_graph", lambda model, path, metadata: path.write_bytes(b"graph"))
    monkeypatch.setattr(network_module, "check_parity", lambda *arguments: 1.0)
    model = lively("tiny").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export_network(model, "a", CAMVID11, tmp_path, train_size=(96, 128))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_parity_says_where_it_fails(exported):
    other = lively("tiny")
    with torch.no_grad():
        other.classifier.bias[CAMVID11.index("road")] += 5
    with pytest.raises(ParityError, match=r"mine\.onnx at 360x480, frame 0: only \d.*%.*most that differ are 'road'"):
        check_parity(exported.file("fp32"), other, CAMVID11, street_frames(1))


def test_parity_of_the_right_network_is_exact(exported):
    model = lively("tiny")
    round_weights(model)
    assert check_parity(exported.file("fp32"), model, CAMVID11, street_frames(2)) > 0.9999


def test_a_crash_in_the_first_run_is_an_error_of_its_own(tmp_path, monkeypatch):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x08broken")
    with pytest.raises(ParityError, match=r"first run of broken\.onnx ended with code 1"):
        first_run(path, [np.zeros((1, 8, 8, 3), np.uint8)])
    crash = tmp_path / "onnxruntime.py"
    crash.write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ParityError, match=r"first run of broken\.onnx ended with"):
        first_run(path, [np.zeros((1, 8, 8, 3), np.uint8)])


@pytest.mark.parametrize("existing", [False, True])
def test_a_network_that_fails_the_gate_leaves_nothing(tmp_path, monkeypatch, existing):
    def fail(*arguments):
        raise ParityError("differs")

    monkeypatch.setattr(network_module, "export_graph", lambda model, path, metadata: path.write_bytes(b"graph"))
    monkeypatch.setattr(network_module, "check_parity", fail)
    if existing:
        (tmp_path / "a.onnx").write_bytes(b"old")
    with pytest.raises(ParityError, match="differs"):
        export_network(lively("tiny"), "a", CAMVID11, tmp_path, train_size=(96, 128))
    assert [path.name for path in tmp_path.iterdir()] == (["a.onnx"] if existing else [])
    assert not existing or (tmp_path / "a.onnx").read_bytes() == b"old"


def test_a_wrong_number_of_classes_is_told(tmp_path):
    with pytest.raises(UsageError, match="19 classes but camvid11 has 11"):
        export_network(lively("tiny", {"classes": 19}), "a", CAMVID11, tmp_path, train_size=(96, 128))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export_network(lively("tiny"), "a", CAMVID11, tmp_path / "file", train_size=(96, 128))


def test_the_labels_form_gives_labels_at_the_size_of_the_input(tmp_path):
    model = lively("tiny")
    path = export_labels(model, "mine", CAMVID11, tmp_path, images=street_frames(1))
    assert path == tmp_path / "mine.labels.onnx"
    round_weights(model)
    for size in ((64, 96), (40, 200)):
        image = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)
        labels = open_session(path, size, 1).run(None, {"image": image})[0]
        assert (labels.dtype, labels.shape) == (np.uint8, (1, *size))
        with torch.inference_mode():
            expected = DeployGraph(model, "labels")(torch.from_numpy(image)).numpy()
        assert (labels == expected).mean() > 0.999


def test_constants_of_a_file_are_float32_where_engines_add(exported):
    graph = onnx.load(exported.file("fp32")).graph
    halves = {tensor.name for tensor in graph.initializer if numpy_helper.to_array(tensor).dtype == np.float16}
    readers = {node.op_type for node in graph.node if halves & set(node.input)}
    assert readers == {"Cast"}


class TestCommand:
    @pytest.fixture(autouse=True)
    def _registered(self):
        register_tiny()

    def test_fresh_weights_then_the_same_file_from_that_file(self, tmp_path, capsys, caplog):
        app.command(app.ExportOptions(model="tiny", untrained=True, folder=tmp_path, name="fresh"))
        steps = [record.getMessage() for record in caplog.records if record.name.startswith("rtseg.export")]
        assert steps == ["writing the graph of fresh", "comparing its labels with torch's"]
        first = Card.load(tmp_path / "fresh.json")
        assert (first.model, first.data_terms) == ("tiny", "untrained")
        assert "fresh.onnx" in capsys.readouterr().out
        again = tmp_path / "again"
        app.command(app.ExportOptions(model=str(tmp_path / "fresh.onnx"), folder=again, engines="openvino"))
        second = Card.load(again / "fresh.json")
        assert (second.files, second.data_terms) == (first.files, first.data_terms)
        assert (first.engine_order, second.engine_order) == (("onnxruntime", "openvino", "torch"), ("openvino",))

    def test_a_checkpoint_of_training(self, tmp_path):
        from rtseg.training.checkpoint import save_tree

        model = lively("tiny")
        about = {
            "model": "tiny", "config": {"classes": 11}, "labels": CAMVID11.to_json(),
            "metrics": {"camvid/val": {"miou": 0.4}}, "train_size": [96, 128], "recipe": {},
        }  # fmt: skip
        save_tree(model.state_dict(), tmp_path / "best.safetensors")
        (tmp_path / "best.json").write_text(json.dumps(about))
        options = app.ExportOptions(checkpoint=tmp_path / "best.safetensors", data_terms="mine")
        found = app.load(options)
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in found.model.state_dict().items())
        assert found.card["train_size"] == (96, 128)
        assert found.card["metrics"] == {"fp32": {"camvid/val": {"miou": 0.4}}}
        (tmp_path / "best.json").unlink()
        with pytest.raises(WeightsError, match=r"best\.json"):
            app.load(options)

    @pytest.mark.parametrize("name", ["icnet", "pspnet"])
    def test_the_auxiliary_classifiers_of_a_checkpoint_are_its_exits(self, name, tmp_path):
        """Where a network's exits are such; those of PSPNet have heads that this one was trained without."""
        from rtseg.training.checkpoint import save_tree

        model = lively(name, SMALL[name])
        about = {"model": name, "config": model.config_json(), "labels": CAMVID11.to_json(), "metrics": {},
                 "train_size": [96, 128], "recipe": {}}  # fmt: skip
        path = tmp_path / "best.safetensors"
        save_tree(model.state_dict(), path)
        (tmp_path / "best.json").write_text(json.dumps(about))
        options = app.ExportOptions(checkpoint=path, exits=2)
        if name == "pspnet":
            with pytest.raises(UsageError, match=r"no trained exits\.0.*--exits 2 needs: train it.*--set exits=2"):
                app.load(options)
            return
        found = app.load(options).model
        assert found.early == ("low", "fused/medium")
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in found.state_dict().items())
        assert app.load(app.ExportOptions(checkpoint=path)).model.early == ()
        with pytest.raises(UsageError, match="this network has up to 2"):
            app.load(app.ExportOptions(checkpoint=path, exits=3))
        with pytest.raises(UsageError, match="--exits needs --checkpoint"):
            app.check_options(app.ExportOptions(model="icnet", exits=2))

    @pytest.mark.parametrize("given", [".", "last.ckpt"])
    def test_another_file_of_the_run_is_told(self, given, tmp_path):
        with pytest.raises(UsageError, match=re.escape(f"give its best weights, {tmp_path / 'best.safetensors'}")):
            app.check_options(app.ExportOptions(checkpoint=tmp_path / given))

    def test_neither_or_both_sources_are_told(self, tmp_path):
        for options in (app.ExportOptions(), app.ExportOptions(model="icnet", checkpoint=tmp_path)):
            with pytest.raises(UsageError, match="either --checkpoint"):
                app.check_options(options)

    def test_a_missing_file_is_told(self, tmp_path):
        for name in ("best.safetensors", "best.json"):
            with pytest.raises(WeightsError, match=f"no such file: .*{name}"):
                app.check_options(app.ExportOptions(checkpoint=tmp_path / "best.safetensors"))
            (tmp_path / name).touch()

    def test_a_checkpoint_is_not_untrained(self, tmp_path):
        with pytest.raises(UsageError, match="--untrained needs --model"):
            app.check_options(app.ExportOptions(checkpoint=tmp_path, untrained=True))

    def test_an_unknown_engine_is_told(self):
        with pytest.raises(UsageError, match="onnxruntime"):
            app.load(app.ExportOptions(model="tiny", untrained=True, engines="onnxruntim"))
