"""Networks with exits in torch, and the chain of graphs that they are exported to."""

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from math import exp, log
from shutil import copytree

import cv2
import numpy as np
import onnx
import pytest
import torch
from camvid_tree import NAMES, make_camvid
from tiny import SMALL, lively, quick_export
from training_runs import config, finished

from rtseg.apps import compile as compile_app
from rtseg.core.card import Card
from rtseg.core.errors import ParityError, UsageError
from rtseg.core.exits import Regions
from rtseg.core.labels import CAMVID11
from rtseg.core.zoo import Artifact, resolve
from rtseg.engines import EngineOptions, load_engine
from rtseg.export.calibrated import calibrated
from rtseg.export.chain import Link
from rtseg.export.exits import costs
from rtseg.export.halo import TOLERANCE
from rtseg.export.onnx import round_weights
from rtseg.export.parity import check_chain_parity
from rtseg.models import MODELS, build_model
from rtseg.models.base import Outputs, count_macs
from rtseg.models.deploy import ExitsGraph
from rtseg.models.exits import ExitHead
from rtseg.models.weights import load_network
from rtseg.pictures.tiles import Tiling
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes import StreetScene
from rtseg.training.networks import build_networks
from rtseg.training.origin import find_origin
from rtseg.training.plan import make_plan
from rtseg.training.run import construct

pytestmark = pytest.mark.slow


WHERE = {
    "icnet": ("low", "fused/medium"),
    "swiftnet": ("encoder/16", "decoder/8"),
    "pspnet": ("encoder/8", "encoder/16"),
    "deeplabv3": ("encoder/8", "encoder/16"),
    "enet": ("section2", "encoder/8"),
}


@pytest.fixture(scope="module", autouse=True)
def _tiny_exits():
    """'tiny-exits' and 'tiny-pooled' are in the registry while this file's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._entries, "tiny-exits", "exit_networks:TinyExits")
        patch.setitem(MODELS._entries, "tiny-pooled", "exit_networks:TinyPooled")
        yield


@pytest.fixture(scope="module")
def network():
    model = lively("tiny-exits")
    round_weights(model)
    return model


@pytest.fixture(scope="module")
def artifact(network, tmp_path_factory):
    return quick_export(network, "net", tmp_path_factory.mktemp("chain"), train_size=(96, 128))


@pytest.mark.parametrize("name", WHERE)
def test_any_network_has_two_early_exits(name):
    plain, model = (build_model(name, {**SMALL[name], "exits": exits}).eval() for exits in (0, 2))
    assert model.early == WHERE[name]
    with torch.no_grad():
        outputs = model.forward_train(torch.zeros(1, 3, model.size_multiple, 2 * model.size_multiple))
    assert len(outputs.auxiliary) == len(model.auxiliary_weights)
    assert model.auxiliary_weights[:2] == (1.0, 1.0)
    for feature, logits in zip(model.early, outputs.auxiliary, strict=False):
        assert logits.shape == (1, 11, *outputs.features[feature].shape[-2:])
    new = set(model.state_dict()) - set(plain.state_dict())
    assert all(key.startswith("exits.") for key in new)
    assert bool(new) == (name != "icnet")
    assert "exits" not in plain.config_json()
    assert build_model(name, model.config_json()).early == model.early


def test_one_exit_leaves_the_rest_of_icnet_s_guidance():
    model = build_model("icnet", {**SMALL["icnet"], "exits": 1})
    assert (model.early, model.auxiliary_weights) == (("fused/medium",), (1.0, 0.16))


def test_every_part_of_a_head_is_trained_and_sees_the_whole_picture():
    head = ExitHead(8, 8, 5)
    x = torch.randn(2, 8, 16, 24, requires_grad=True)
    head(x).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    head.eval()
    (gradient,) = torch.autograd.grad(head(x)[0, :, 0, 0].sum(), x)
    assert gradient[0].abs().sum(0).min() > 0  # the corner's scores depend on every cell


@pytest.mark.parametrize("exits", [-1, 3, 1.0, True])
def test_another_number_of_exits_is_told(exits):
    with pytest.raises(UsageError, match=f"exits is {exits!r}: this network has up to 2"):
        build_model("icnet", {"exits": exits})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("camvid")
    make_camvid(root, NAMES)
    make_camvid(root, NAMES[:2], "val")
    return root


def test_the_loss_is_the_weighted_sum_of_all_exits(root, tmp_path):
    """Equal scores cost ln 11; scores that lead by 2 for the true class cost ln(1 + 10 / e²)."""
    run = config(root, tmp_path / "run", model="tiny-exits", exit_weights=(0.5, 0.25), class_balance=0)
    task, _, _ = construct(make_plan(run))
    task.log = lambda *_, **__: None
    leading = torch.zeros(1, 11, 8, 8)
    leading[:, 0] = 2
    equal = torch.zeros(1, 11, 8, 8)
    task._forward = lambda _: Outputs(equal, (equal[..., :4, :4], leading), {})
    batch = torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.zeros(1, 32, 32, dtype=torch.uint8)
    assert task.training_step(batch, 0).item() == pytest.approx(1.5 * log(11) + 0.25 * log(1 + 10 / exp(2)), abs=1e-5)


@pytest.mark.parametrize(("exits", "told"), [(2, "1 numbers but tiny-exits has 2"), (0, "0 early exits.*--set exits")])
def test_weights_that_are_not_one_for_each_exit_are_told(root, tmp_path, exits, told):
    run = config(root, tmp_path / "run", model="tiny-exits", set=(f"exits={exits}",), exit_weights=(1.0,))
    with pytest.raises(UsageError, match=told):
        make_plan(run)


def test_a_network_without_exits_starts_one_with(root, tmp_path):
    start = finished(lively("tiny-exits", {"exits": 0}), "tiny-exits", tmp_path)
    run = config(root, tmp_path / "run", model="tiny-exits", init=start, set=("exits=1",))
    networks = build_networks(run, 11, find_origin(start), (), {})
    assert networks.student.early == ("encoder/8",)
    assert networks.start.fresh
    assert all(name.startswith("exits.0.") for name in networks.start.fresh)


def test_a_network_with_exits_starts_one_without(root, tmp_path):
    """Everything but the exits' heads is taken, not only the trunk."""
    source = lively("tiny-exits", {"exits": 1})
    start = finished(source, "tiny-exits", tmp_path)
    run = config(root, tmp_path / "run", model="tiny-exits", init=start, set=("exits=0",))
    networks = build_networks(run, 11, find_origin(start), (), {})
    assert networks.student.early == ()
    assert not networks.start.only_trunk
    assert not networks.start.fresh
    torch.testing.assert_close(networks.student.fourth[0].weight, source.fourth[0].weight, rtol=1e-3, atol=1e-3)


def test_the_card_says_where_the_network_stops(artifact, network):
    card = Card.load(artifact.folder / "net.json")
    assert [each.name for each in card.exits] == ["encoder/4", "encoder/8", "last"]
    assert [each.files["fp32"].file for each in card.exits] == [f"net.exit{number}.onnx" for number in (1, 2, 3)]
    assert card.config == {"classes": 11, "exits": 2}
    graphs = [onnx.load(path).graph for path in artifact.chain("fp32")]
    for each, graph in zip(card.exits, graphs, strict=True):
        assert [output.name for output in graph.output] == ["logits", *each.hands_on]


def test_no_work_is_done_twice(artifact):
    """Every convolution is in one graph of the chain, and all of the whole network's are present."""
    chain = [{node.name for node in onnx.load(path).graph.node if node.op_type == "Conv"} for path in
             artifact.chain("fp32")]  # fmt: skip
    assert sum(map(len, chain)) == len(set.union(*chain))
    whole = {node.name for node in onnx.load(artifact.file("fp32")).graph.node if node.op_type == "Conv"}
    assert whole < set.union(*chain)
    assert len(whole) == 5  # first to fourth, and the classifier
    for path in artifact.chain("fp32")[1:]:  # later graphs query the picture's size, never a feature's
        asked = {node.input[0] for node in onnx.load(path).graph.node if node.op_type == "Shape"}
        assert asked <= {"image"}


def test_the_cost_of_an_exit_counts_all_before_it(artifact, network):
    """For a 1024x2048 picture, by hand, in 1e9: layers and classifiers, and a head of 64 channels at stride 8."""
    cells = {stride: (1024 // stride) * (2048 // stride) for stride in (2, 4, 8, 16, 32)}
    down = (cells[16] + cells[32]) * (9 * 64 + 64 * 64)
    up = (cells[8] + cells[16]) * (64 * 32 + 9 * 96 + 96 * 64)
    early, head = cells[4] * 16 * 11, cells[8] * (16 * 64 + 64 * 11) + down + up
    first = cells[2] * 27 * 8 + cells[4] * 72 * 16 + early
    second = first + cells[8] * 144 * 16 + head
    last = second + cells[4] * (144 * 16 + 16 * 11)
    costs = [each.gmac_1024x2048 for each in artifact.card.exits]
    assert costs == [round(macs / 1e9, 2) for macs in (first, second, last)]
    assert last - early - head == count_macs(network, (1024, 2048))


def test_what_a_block_computes_with_the_weights_of_its_layers_counts_too():
    """Modules like CliqueNet's blocks: a graph with all weights of the whole network costs what that costs."""
    fields = {"encoder": "cliquenet_s0", "width": 0.25, "channels": 16, "output_stride": 16, "exits": 1}
    model = build_model("deeplabv3", fields)
    held = frozenset(name for name in model.state_dict() if not name.startswith("exits."))
    (cost,) = costs(model, [Link(onnx.ModelProto(), (), held)], (1024, 2048))
    assert cost == round(count_macs(model, (1024, 2048)) / 1e9, 2)


@pytest.mark.parametrize("name", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.openvino)])
def test_every_exit_gives_torch_s_logits(artifact, network, name):
    size = (96, 160)
    image = StreetScene(size, seed=3).render(0)[0]
    with torch.inference_mode():
        expected = [logits[0].numpy() for logits in ExitsGraph(network)(torch.from_numpy(image)[None])]
    with load_engine(name, artifact, EngineOptions(size, exits=True)) as engine:
        run = engine.start(image)
        for logits in expected:
            np.testing.assert_allclose(run.logits(), logits, atol=1e-4 * max(1, np.abs(logits).max()))
    with load_engine(name, artifact, EngineOptions(size)) as whole:
        np.testing.assert_allclose(whole.infer(image), expected[-1], atol=1e-4 * np.abs(expected[-1]).max())


def test_an_exit_that_differs_is_told(artifact, network, monkeypatch):
    monkeypatch.setattr("rtseg.export.parity.GATE_SIZES", ((64, 96), (96, 64)))
    other = deepcopy(network)
    with torch.no_grad():
        for parameter in other.exits[0].classifier.parameters():
            parameter.neg_()  # its least likely class becomes the likeliest
    images = [StreetScene((64, 96), seed=0).render(0)[0]]
    with pytest.raises(ParityError, match=r"exit encoder/8 at .* have torch's label"):
        check_chain_parity(artifact.chain("fp32"), other, CAMVID11, images)


def test_int8_of_the_chain(artifact, tmp_path):
    copytree(artifact.folder, tmp_path / "net")
    frames, size = tmp_path / "frames", (96, 160)
    frames.mkdir()
    pictures = [StreetScene(size, seed=seed).render(0)[0] for seed in range(2)]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(frames / f"{number}.png"), picture)
    compile_app.command(compile_app.CompileOptions(model=str(tmp_path / "net" / "net.onnx"), frames=frames))
    made = resolve(tmp_path / "net" / "net.onnx")
    assert [path.name for path in made.chain("int8")] == [f"net.exit{number}.int8.onnx" for number in (1, 2, 3)]
    assert [each.hands_on for each in made.card.exits] == [each.hands_on for each in artifact.card.exits]
    rounded = [Counter(node.op_type for node in onnx.load(path).graph.node) for path in made.chain("int8")]
    assert rounded[0]["QuantizeLinear"] == 0  # its convolutions see the picture, hand on, or classify
    assert min(kinds["QuantizeLinear"] for kinds in rounded[1:]) > 0
    with (
        load_engine("onnxruntime", made, EngineOptions(size, exits=True)) as exact,
        load_engine("onnxruntime", made, EngineOptions(size, "int8", exits=True)) as integer,
    ):
        one, other = exact.start(pictures[0]), integer.start(pictures[0])
        while one.more:
            expected = one.logits()
            np.testing.assert_allclose(other.logits(), expected, atol=0.1 * np.abs(expected).max())


def test_the_halo_is_what_the_rest_of_the_network_looks_at(artifact):
    """Behind 'encoder/4' a tile needs 8 pixels for the cells around those of stride 8 that it is interpolated from, 4
    more for the 3x3 convolution there, as many for the last one and for the cell around the tile: less than 32, which
    is the least there is."""
    assert [each.halo for each in artifact.card.exits] == [32, 32, None]


def test_a_picture_in_parts_has_the_labels_of_the_whole(artifact):
    """Every tile of a picture, each with its halo, in one batch."""
    size = (192, 320)
    image = StreetScene(size, seed=5).render(0)[0]
    tiling = Tiling(size, (64, 64), artifact.card.exits[0].halo)
    with load_engine("onnxruntime", artifact, EngineOptions(size, exits=True)) as engine:
        whole = engine.infer(image).copy()
        run = engine.start(image)
        run.logits()
        parts = run.parts([tiling.corner(tile) for tile in tiling.tiles], tiling.part_hw)
        joined = tiling.join(parts, tiling.tiles)
    np.testing.assert_allclose(joined, whole, atol=TOLERANCE * np.abs(whole).max())
    labels, expected = (upsample_labels(logits, size) for logits in (joined, whole))
    assert (labels == expected).mean() > 0.999


def test_without_a_halo_parts_differ(artifact):
    """A check of the tests above: the network does look beyond a tile."""
    size = (192, 320)
    tiling = Tiling(size, (64, 64), 0)
    with load_engine("onnxruntime", artifact, EngineOptions(size, exits=True)) as engine:
        image = StreetScene(size, seed=5).render(0)[0]
        whole = engine.infer(image).copy()
        run = engine.start(image)
        run.logits()
        parts = run.parts([tiling.corner(tiling.tiles[6])], tiling.part_hw)
    assert np.abs(parts[0] - whole[:, 16:32, 16:32]).max() > 3 * TOLERANCE * np.abs(whole).max()


def test_a_network_that_pools_over_the_picture_has_no_halo(tmp_path):
    model = lively("tiny-pooled", {"exits": 1})
    round_weights(model)
    card = quick_export(model, "pooled", tmp_path, train_size=(96, 128)).card
    assert [each.halo for each in card.exits] == [None, None]
    with pytest.raises(UsageError, match="sees the whole picture"):
        card.check_exit("encoder/8:0.9")


def test_what_was_calibrated_is_kept_where_the_weights_are_the_same(artifact, network, tmp_path, caplog):
    copytree(artifact.folder, tmp_path / "net")
    regions, figures = Regions(0.5, (64, 64)), {"fp32": {"camvid/val": {"miou": 0.25}}}
    card = artifact.card.with_exit("encoder/4", threshold=0.125, regions=regions, metrics={**figures, "int8": {}})
    card = replace(card.with_exit("encoder/8", threshold=0.25), temperature=2.0, temperature_from="camvid/val")
    before = Artifact(card, tmp_path / "net")
    before.save_card(card)
    made = quick_export(network, "net", tmp_path / "net", train_size=(96, 128)).card
    assert made == Card.load(tmp_path / "net" / "net.json")
    assert [each.threshold for each in made.exits] == [0.125, 0.25, None]
    assert [each.regions for each in made.exits] == [regions, None, None]
    assert [each.metrics for each in made.exits] == [figures, {}, {}]  # there are no INT8 files any more
    assert (made.temperature, made.temperature_from) == (2.0, "camvid/val")
    assert not [record for record in caplog.records if record.name.startswith("rtseg")]
    assert calibrated(network, before) == card


def test_what_was_calibrated_with_other_weights_is_dropped(artifact, network, caplog):
    before = replace(artifact, card=artifact.card.with_exit("encoder/4", threshold=0.125))
    other = deepcopy(network)
    with torch.no_grad():
        other.exits[0].classifier.bias.add_(0.5)
    assert calibrated(other, before) is None
    assert [record.message for record in caplog.records if record.name.startswith("rtseg")] == [
        "net was calibrated with other weights: that is dropped, and rtseg eval with --calibrate or --calibrate-exits "
        "finds it again"
    ]
    caplog.clear()
    assert calibrated(other, artifact) is None  # nothing was calibrated
    assert calibrated(network, None) is None
    assert not [record for record in caplog.records if record.name.startswith("rtseg")]


def test_the_files_are_the_checkpoint_of_the_exits_too(artifact, network):
    restored = load_network(artifact)
    assert restored.early == network.early
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(restored.state_dict()[key], value), key
