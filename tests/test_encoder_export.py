"""Encoders with special operators, or special uses of weights: trained for a step, exported, and run by the engines."""

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from test_operators import problems
from tiny import quick_export, randomise

from rtseg.engines import EngineOptions, load_engine
from rtseg.engines.tensorrt.typed_graph import typed_graph
from rtseg.int8.fold import load_float_graph
from rtseg.models import build_model
from rtseg.models.deploy import DeployGraph
from rtseg.models.encoders.sampling import is_offset
from rtseg.models.weights import load_network

pytestmark = pytest.mark.slow

SIZE = (64, 96)
FORMS = {
    "deformable": {"encoder": "resnet18", "width": 0.125, "conv": "deformable", "conv_count": 2},
    "active": {"encoder": "resnet18", "width": 0.125, "conv": "active", "conv_count": 2},
    "cliquenet": {"encoder": "cliquenet_s0", "width": 0.125, "attention": True},
    "alexnet": {"encoder": "alexnet", "output_stride": 8},  # poolings without stride
    "pyramidnet": {"encoder": "pyramidnet18", "width": 0.125},
}


def trained(fields):
    """A network after one step, with moved taps."""
    torch.manual_seed(0)
    model = build_model("pspnet", {"channels": 16, "output_stride": 16, **fields}).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    logits, auxiliary, _ = model.forward_train(torch.randn(2, 3, *SIZE))
    sum(output.square().mean() for output in (logits, *auxiliary)).backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []
    optimizer.step()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if is_offset(name):
                value.normal_(0, 0.3)
    return randomise(model)


@pytest.fixture(scope="module", autouse=True)
def _few_layers():
    """CliqueNet's blocks have two or three layers, because each is exported many times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtseg.models.encoders.cliquenet.S0", ((36, 2), (64, 3), (100, 2), (80, 2)))
        yield


@pytest.fixture(scope="module", params=list(FORMS))
def exported(request, tmp_path_factory):
    """The exported network, which has passed the parity gate, and the gate's pictures."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(2)]
    model, folder = trained(FORMS[request.param]), tmp_path_factory.mktemp(request.param)
    return quick_export(model, request.param, folder, train_size=SIZE, images=pictures), pictures[0]


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.openvino)])
def test_an_engine_computes_what_was_trained(exported, engine):
    artifact, picture = exported
    network = DeployGraph(load_network(artifact))  # rebuilt from the file alone
    with torch.inference_mode():
        expected = network(torch.from_numpy(picture[None])).numpy()[0]
    with load_engine(engine, artifact, EngineOptions(SIZE)) as loaded:
        found = loaded.infer(picture)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max())


def test_weights_that_are_computed_are_folded_before_int8(exported):
    """`load_float_graph` rejects convolutions whose weights are not stored."""
    artifact, picture = exported
    folded = load_float_graph(artifact.file("fp32"))
    found, expected = (
        InferenceSession(model.SerializeToString()).run(None, {"image": picture[None]})[0]
        for model in (folded, onnx.load(artifact.file("fp32")))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_operators_are_those_that_tensorrt_takes(exported):
    artifact, _ = exported
    path = artifact.file("fp32")
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert ("GridSample" in operators) == ("deformable" in path.name)
    assert problems(typed_graph(path, "fp16", SIZE).model) == set()
