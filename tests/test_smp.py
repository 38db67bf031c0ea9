"""Networks of segmentation-models-pytorch by name."""

import pytest
import segmentation_models_pytorch as smp
import torch
from parameters import count_parameters
from safetensors.torch import save_file

from rtseg.core.errors import UsageError, WeightsError
from rtseg.export.onnx import export_graph
from rtseg.models import build_model
from rtseg.models.smp import SmpNetwork

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["smp:unet:resnet18", "smp:fpn:mobilenet_v2", "smp:deeplabv3plus:resnet18"])
def test_a_name_gives_that_network(name):
    model = build_model(name, {"classes": 5}).eval()
    assert isinstance(model, SmpNetwork)
    _, architecture, encoder = name.split(":")
    assert model.config_json() == {"classes": 5, "architecture": architecture, "encoder": encoder}
    with torch.device("meta"):
        theirs = smp.create_model(architecture, encoder, None, classes=5)
    assert count_parameters(model) == count_parameters(theirs)
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 5, 64, 96)  # logits at the input's size


def test_the_stored_config_rebuilds_it_under_either_name():
    config = build_model("smp:fpn:resnet18", {}).config_json()
    assert build_model("smp", config).config == build_model("smp:fpn:resnet18", config).config


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("smp:unett:resnet18", r"unknown architecture of smp 'unett': did you mean unet"),
        ("smp:unet:resnet19", r"unknown encoder of smp 'resnet19': did you mean resnet"),
        ("smp:unet", "is not smp:ARCHITECTURE:ENCODER"),
        ("smp:unet:resnet18:extra", "is not smp:ARCHITECTURE:ENCODER"),
        ("smp:unet:tu-resnet19", "unknown encoder of smp 'resnet19': did you mean resnet"),
        ("smp:linknet:mit_b0", "smp has no linknet on mit_b0"),
        ("smpp:unet:resnet18", "unknown model"),
    ],
)
def test_names_that_do_not_exist_are_told(name, told):
    with pytest.raises(UsageError, match=told):
        build_model(name, {})


def test_its_encoder_takes_a_file(tmp_path):
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    save_file(encoder.state_dict(), tmp_path / "weights.safetensors")
    model = build_model("smp:unet:resnet18", {"pretrained": str(tmp_path / "weights.safetensors")})
    assert torch.equal(model.network.encoder.layer4[1].conv2.weight, encoder.layer4[1].conv2.weight)
    assert "pretrained" not in model.config_json()
    with pytest.raises(WeightsError, match=r"weights\.safetensors does not fit smp:unet:resnet34"):
        build_model("smp:unet:resnet34", {"pretrained": str(tmp_path / "weights.safetensors")})


def test_a_network_with_idle_weights_is_not_exported(tmp_path):
    model = build_model("smp:pspnet:resnet18", {}).eval()  # of its encoder, two stages are never run
    with pytest.raises(UsageError, match=r"cannot be exported: network\.encoder\.layer3.*takes no part"):
        export_graph(model, tmp_path / "a.onnx", {})
    assert not list(tmp_path.iterdir())
