import json

import pytest
import torch
import torch.nn.functional as F
from parameters import count_parameters
from tiny import SMALL, lively
from torch import nn

from rtseg.core.errors import UsageError
from rtseg.models import MODELS, build_model
from rtseg.models.base import IMAGENET_STATISTICS, count_inference_parameters, count_macs
from rtseg.models.deploy import DeployGraph, normalise
from rtseg.models.enet import max_pool_mask, max_unpool_mask
from rtseg.models.pyramid import PyramidPooling

pytestmark = pytest.mark.slow

NETWORKS = [name for name in MODELS if name != "tiny"]  # which other tests register
PAPER_SIZE = (1024, 2048)


def test_enet_has_the_size_of_its_paper():
    model = build_model("enet", {"classes": 19})
    assert count_parameters(model) == 361_415
    assert count_parameters(model) == pytest.approx(0.37e6, rel=0.03)  # table 3
    # the same table estimates 3.83 GFLOP at 3x640x360; convolutions alone, two for each MAC, are 3.62
    assert 2 * count_macs(model, (360, 640)) == pytest.approx(3.83e9, rel=0.06)


def test_icnet_has_the_size_of_its_paper():
    model = build_model("icnet", {"classes": 19})
    assert count_inference_parameters(model) == pytest.approx(6.7e6, rel=0.01)
    assert count_macs(model, PAPER_SIZE) == pytest.approx(29.02e9, rel=0.001)
    assert 28e9 < count_macs(model, PAPER_SIZE) < 30e9
    assert count_parameters(model) > count_inference_parameters(model)  # two auxiliary classifiers


def test_every_network_has_a_small_config_for_the_suites():
    assert set(SMALL) == set(NETWORKS)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3"])
def test_default_networks_fit_16_mib(name):
    assert 2 * count_inference_parameters(build_model(name, {})) < 15.7 * 2**20  # fp16; the graph takes the rest


@pytest.mark.parametrize("name", NETWORKS)
def test_counting_does_not_change_the_network(name):
    model = build_model(name, SMALL[name]).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_macs(model, (64, 128))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name):
    model = build_model(name, SMALL[name]).train()
    logits, auxiliary, _ = model.forward_train(torch.randn(3, 3, 64, 96))
    assert len(auxiliary) == len(model.auxiliary_weights)
    sum(output.square().mean() for output in (logits, *auxiliary)).backward()
    without = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("cells", [(1, 1), (3, 5), (5, 2)])
def test_any_multiple_fits(name, cells):
    model = lively(name, SMALL[name])
    height, width = (side * model.size_multiple for side in cells)
    with torch.inference_mode():
        logits = model(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 11, height // model.logits_stride, width // model.logits_stride)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_and_training_outputs_agree(name):
    model = lively(name, SMALL[name])
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(model(x), model.forward_train(x)[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_config_that_does_not_fit_is_told(name):
    with pytest.raises(UsageError, match="classes"):
        build_model(name, {"classes": 0})
    with pytest.raises(UsageError, match=r"'class': did you mean classes\? allowed: classes"):
        build_model(name, {"class": 3})


def test_unknown_networks_are_told_with_those_that_are_close():
    with pytest.raises(UsageError, match=r"unknown model 'pspnett': did you mean pspnet.*or smp:ARCHITECTURE:ENCODER"):
        build_model("pspnett", {})
    with pytest.raises(UsageError, match="unknown model 'icnet:resnet50'"):
        build_model("icnet:resnet50", {})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_rebuilt_from_what_is_stored(name):
    model = build_model(name, SMALL[name])
    again = build_model(name, json.loads(json.dumps(model.config_json())))
    assert again.config == model.config
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_fresh_weights_follow_from_the_seed(name):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(name, SMALL[name]).state_dict())
    first, same, other = ([state[key] for key in state if state[key].ndim == 4] for state in states)
    assert all(torch.equal(*pair) for pair in zip(first, same, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))


def test_icnet_runs_its_shared_stages_once():
    model = lively("icnet", SMALL["icnet"])
    calls = []
    for stages in (model.stem, model.shared, model.low):
        stages.register_forward_hook(lambda module, inputs, output: calls.append(tuple(output.shape[-2:])))
    with torch.inference_mode():
        model(torch.randn(1, 3, 64, 128))
    # half-size picture -> 1/8; the trunk at 1/16; the low branch goes on at 1/32
    assert calls == [(8, 16), (4, 8), (2, 4)]


def awkward(kind):
    """Values with ties and all kinds of signs."""
    torch.manual_seed(1)
    x = torch.randn(2, 5, 12, 18)
    return {
        "random": x,
        "negative": -x.abs() - 1,
        "ties": x.round(),  # many windows with two or more equal maxima
        "constant": torch.full_like(x, -2.5),
        "signed zeros": torch.where(x > 0, 0.0, -0.0) * torch.ones_like(x),
    }[kind]


@pytest.mark.parametrize("kind", ["random", "negative", "ties", "constant", "signed zeros"])
def test_masked_unpooling_has_the_bits_of_index_unpooling(kind):
    x = awkward(kind)
    pooled, mask = max_pool_mask(x)
    expected, indices = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(pooled, expected)
    assert torch.equal(mask, F.max_unpool2d(torch.ones_like(pooled), indices, 2))
    values = torch.randn_like(pooled)
    values[values.abs() < 0.3] = 0.0
    made = max_unpool_mask(values, mask)
    # an empty place may be -0.0 where the value is negative: equal to 0.0 in every comparison and sum
    assert torch.equal(made, F.max_unpool2d(values, indices, 2))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7), (6, 6), (8, 16), (11, 15), (32, 64)])
def test_pyramid_pooling_by_matrices_equals_adaptive_pooling(size, monkeypatch):
    pyramid, x = PyramidPooling().double(), torch.randn(2, 4, *size, dtype=torch.float64)
    usual = pyramid(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.delattr(F, "adaptive_avg_pool2d")  # an export has none
    torch.testing.assert_close(pyramid(x), usual, rtol=1e-5, atol=1e-6)


def test_normalising_is_fixed_and_rgb():
    black, white = (torch.full((1, 2, 2, 3), value, dtype=torch.uint8) for value in (0, 255))
    by = IMAGENET_STATISTICS
    mean, deviation = torch.tensor(by.mean), torch.tensor(by.std)
    torch.testing.assert_close(normalise(black, by)[0, :, 0, 0], -mean / deviation)
    torch.testing.assert_close(normalise(white, by)[0, :, 0, 0], (1 - mean) / deviation)
    blue = black.clone()
    blue[..., 0] = 255  # BGR
    assert (normalise(blue, by) - normalise(black, by))[0, :, 0, 0].nonzero().tolist() == [[2]]
    assert normalise(blue, by).shape == (1, 3, 2, 2)


@pytest.mark.parametrize("name", ["icnet", "tiny"])
def test_labels_form_upsamples_then_takes_the_best(name):
    model = lively(name, SMALL.get(name))
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        logits, labels = DeployGraph(model)(images), DeployGraph(model, "labels")(images)
    expected = F.interpolate(logits, (64, 96), mode="bilinear", align_corners=False).argmax(1)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), expected)


def test_unknown_output_is_told():
    with pytest.raises(UsageError, match="logits, labels"):
        DeployGraph(nn.Identity(), "mask")
