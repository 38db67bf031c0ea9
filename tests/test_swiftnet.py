"""SwiftNet and the decoder steps, also in ICNet and the dilated networks."""

import pytest
import torch
from tiny import lively, randomise
from torch import nn

from rtseg.core.errors import UsageError
from rtseg.models import build_model
from rtseg.models.base import count_inference_parameters, count_macs
from rtseg.models.decoders import STEPS, Refinement
from rtseg.models.deploy import DeployGraph

pytestmark = pytest.mark.slow

THIN = {"encoder": "mobilenet_v3_small", "width": 0.25, "channels": 16}


def test_swiftnet_costs_what_its_card_will_say():
    with torch.device("meta"):
        model = build_model("swiftnet", {})
    assert count_inference_parameters(model) == pytest.approx(3.41e6, rel=0.005)
    assert count_macs(model, (352, 480)) == pytest.approx(2.18e9, rel=0.005)


@pytest.mark.parametrize("kind", list(STEPS))
def test_a_step_doubles_the_size_and_uses_both(kind):
    step = randomise(STEPS[kind](8, 4, 6))
    coarse, skip = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6, 10)
    with torch.inference_mode():
        out = step(coarse, skip)
        assert out.shape == (2, 6, 6, 10)
        assert not torch.equal(out, step(torch.zeros_like(coarse), skip))
        assert not torch.equal(out, step(coarse, torch.zeros_like(skip)))


@pytest.mark.parametrize("kind", list(STEPS))
def test_every_decoder_trains_every_parameter(kind):
    torch.manual_seed(0)
    model = build_model("swiftnet", {**THIN, "decoder": kind}).train()
    logits, auxiliary, _ = model.forward_train(torch.randn(3, 3, 64, 96))
    outputs = (logits, *auxiliary)
    assert [tuple(output.shape[-2:]) for output in outputs] == [(16, 24), (8, 12), (4, 6)]
    sum(output.square().mean() for output in outputs).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"decoder": "unet"}, "decoder is 'unet': allowed are sum, attention, separable"),
     ({"output_stride": 16}, "goes from stride 32 to 4"), ({"logits_stride": 8}, "goes from stride 32 to 4")],
)  # fmt: skip
def test_what_swiftnet_cannot_be_is_told(fields, told):
    with pytest.raises(UsageError, match=told):
        build_model("swiftnet", fields)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3"])
@pytest.mark.parametrize(("output_stride", "logits_stride"), [(16, 4), (16, 8), (8, 4), (16, 16), (32, 16)])
def test_a_dilated_network_ends_where_logits_stride_says(name, output_stride, logits_stride):
    fields = {**THIN, "output_stride": output_stride, "logits_stride": logits_stride}
    model = lively(name, fields)
    assert (model.size_multiple, model.logits_stride) == (output_stride, logits_stride)
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 11, 64 // logits_stride, 96 // logits_stride)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3"])
@pytest.mark.parametrize(("stride", "told"), [(32, "allowed are 4, 8 and 16"), (16, "above the output stride 8")])
def test_a_logits_stride_that_does_not_fit_is_told(name, stride, told):
    with pytest.raises(UsageError, match=f"logits_stride is {stride}.*{told}"):
        build_model(name, {**THIN, "output_stride": 8, "logits_stride": stride})


def test_without_a_finer_stride_the_networks_are_the_papers():
    assert not list(Refinement(8, (4, 4, 4), 8, 8).parameters())
    model = build_model("pspnet", {**THIN, "output_stride": 8})
    assert not any(name.startswith("refine") for name in model.state_dict())


ICNET = {"width": 0.125, "encoder": "mobilenet_v3_small"}


@pytest.mark.parametrize(
    "fields", [{}, {"high": "trunk"}, {"shared_stride": 16}, {"high": "trunk", "shared_stride": 16, "detail": True}]
)
def test_icnet_stands_on_an_encoder(fields):
    model = lively("icnet", {**ICNET, **fields})
    sizes = []
    for part in (model.shared, model.low, model.high[-1]):
        part.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[-2:])))
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 128)).shape == (1, 11, 16, 32)
    assert sizes == [(4, 8), (2, 4), (8, 16)]  # 1/16, 1/32, 1/8 of the picture
    assert sum(p.numel() for part in model.trunk() for p in part.parameters()) > 0
    assert len({id(p) for p in model.parameters()}) == len(list(model.parameters()))  # the copy has separate weights


def test_icnet_sees_stride_4_at_full_size():
    model = lively("icnet", {**ICNET, "high": "trunk", "detail": True})
    seen = []
    model.detail.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    x = torch.randn(1, 3, 64, 128)
    with torch.inference_mode():
        model(x)
        torch.testing.assert_close(seen[1], model.high[:2](x))


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"pretrained": "imagenet"}, "no pretrained weights of ICNet's own trunk: name an encoder"),
     ({"high": "trunk"}, "allowed are plain and trunk, the latter with an encoder"),
     ({"shared_stride": 16}, "allowed are 8 and 16, the latter with an encoder"),
     ({"encoder": "resnet18", "shared_stride": 4}, "shared_stride is 4"),
     ({"encoder": "resnet18", "detail": True}, "set high=trunk as well"),
     ({"encoder": "timm:resnet18"}, "cannot be cut at a stride")],
)  # fmt: skip
def test_what_icnet_cannot_be_is_told(fields, told):
    with pytest.raises(UsageError, match=told):
        build_model("icnet", fields)


@pytest.mark.parametrize("name", ["swiftnet", "pspnet", "deeplabv3", "icnet"])
def test_pictures_are_scaled_as_the_trunk_was_taught(name):
    extra = {} if name == "icnet" else {"channels": 16}
    model = build_model(name, {"encoder": "efficientnet_lite0", **extra}).eval()
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        DeployGraph(model)(torch.full((1, 64, 96, 3), 255, dtype=torch.uint8))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 64, 96))  # (255 - 127) / 128
    assert isinstance(model, nn.Module)
