"""Trunks: the published networks, dilated to an output stride."""

import pytest
import timm
import torch
import torchvision
from parameters import count_parameters
from tiny import randomise
from torch import nn

from rtseg.core.errors import UsageError
from rtseg.models.base import count_macs
from rtseg.models.encoders import ENCODERS, TrunkOptions, build_encoder
from rtseg.models.encoders.squeeze import SqueezeExcite
from rtseg.models.encoders.table import ROWS

pytestmark = pytest.mark.slow

NAMES = list(ENCODERS)
FAMILIES = list({row.target.partition(":")[0]: name for name, row in reversed(ROWS.items())}.values())
"""One encoder per file: those of a file differ in numbers only."""
LITE = [name for name in NAMES if name.startswith("efficientnet_lite")]
MOBILENETS = [name for name in NAMES if name.startswith("mobilenet")]
THIN = {"width": 0.25}
SMALLER = {"densenet121": {"layers": [2, 2, 2, 2]}, "fractalnet34": {"columns": 3}}
"""Settings that make deep encoders small enough for the suites."""


def built(name, **options):
    torch.manual_seed(0)
    return randomise(build_encoder(name, TrunkOptions(**options)))


def thin(name, **options):
    """Small, if the encoder can be scaled."""
    width = 0.25 if ROWS[name].width else 1.0
    return built(name, width=width, settings=SMALLER.get(name, {}), **options)


def rates(module):
    """The dilation of every convolution larger than 1x1, in order."""
    found = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)]
    return [layer.dilation[0] for layer in found]


@pytest.mark.parametrize(
    ("name", "published", "left_out"),
    [
        ("resnet18", 11_689_512, 513_000), ("resnet34", 21_797_672, 513_000), ("resnet50", 25_557_032, 2_049_000),
        ("resnet101", 44_549_160, 2_049_000), ("mobilenet_v2", 3_504_872, 1_281_000 + 320 * 1280 + 2 * 1280),
        ("mobilenet_v3_large", 5_483_032, 961 * 1280 + 1_281_000),
        ("mobilenet_v3_small", 2_542_856, 577 * 1024 + 1_025_000),
    ],
)  # fmt: skip
def test_parameters_are_torchvisions_without_its_classifier(name, published, left_out):
    with torch.device("meta"):
        theirs = count_parameters(torchvision.models.get_model(name))
        assert count_parameters(build_encoder(name, TrunkOptions())) == theirs - left_out
    assert theirs == published


@pytest.mark.parametrize(
    ("width", "parameters", "macs"),
    [(1.0, 4.2e6, 569e6), (0.75, 2.6e6, 325e6), (0.5, 1.3e6, 149e6), (0.25, 0.5e6, 41e6)],
)
def test_mobilenet_v1_has_the_size_of_its_paper(width, parameters, macs):
    with torch.device("meta"):
        encoder = build_encoder("mobilenet_v1", TrunkOptions(width=width))
    classifier = encoder.channels[-1] * 1000
    assert count_parameters(encoder) + classifier + 1000 == pytest.approx(parameters, abs=0.05e6)  # table 6
    assert count_macs(encoder, (224, 224)) + classifier == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("name", "macs"),
    [("resnet18", 1.81e9), ("resnet34", 3.66e9), ("resnet50", 4.09e9), ("resnet101", 7.80e9),
     ("mobilenet_v3_large", 0.217e9), ("mobilenet_v3_small", 0.057e9)],
)  # fmt: skip
def test_arithmetic_is_what_torchvision_publishes(name, macs):
    with torch.device("meta"):
        encoder = build_encoder(name, TrunkOptions())
    assert count_macs(encoder, (224, 224)) == pytest.approx(macs, rel=0.04)  # the classifier is the rest


@pytest.mark.parametrize(
    ("name", "published"),
    [("efficientnet_lite0", 4.65e6), ("efficientnet_lite1", 5.42e6), ("efficientnet_lite2", 6.09e6)],
)
def test_efficientnet_lites_have_the_size_that_their_authors_publish(name, published):
    with torch.device("meta"):
        encoder = build_encoder(name, TrunkOptions())
    last = encoder.channels[-1] * 1280 + 2 * 1280  # the 1x1 convolution before the classifier, with batch norm
    assert count_parameters(encoder) + last + 1280 * 1000 + 1000 == pytest.approx(published, rel=0.002)


@pytest.mark.parametrize("name", LITE)
def test_efficientnet_lites_are_timms(name):
    """The same features at every stride from the same weights: layers, uneven padding, epsilon."""
    ours = built(name)
    theirs = timm.create_model(f"tf_{name}", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for own, expected in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_lite0"])
@pytest.mark.parametrize(("stride", "level"), [(4, 0), (8, 1), (16, 2)])
def test_the_two_parts_of_a_cut_encoder_are_the_whole(name, stride, level):
    encoder, x = built(name, output_stride=8), torch.randn(1, 3, 64, 96)
    shallow, deep = encoder.cut(stride)
    with torch.inference_mode():
        features = encoder(x)
        middle = shallow(x)
        torch.testing.assert_close(middle, features[level - 4])
        torch.testing.assert_close(deep(middle), features[-1])


def test_an_encoder_of_timm_cannot_be_cut():
    with pytest.raises(UsageError, match="TimmEncoder cannot be cut at a stride: choose a mobilenet"):
        built("timm:resnet18").cut(8)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
@pytest.mark.parametrize("width", [0.5, 0.75, 1.4])
def test_width_multiplies_as_in_torchvision(name, width):
    with torch.device("meta"):
        ours = build_encoder(name, TrunkOptions(width=width))
        theirs = torchvision.models.get_model(name, width_mult=width).features
    assert count_parameters(ours) == count_parameters(theirs[:-1] if name == "mobilenet_v2" else theirs)


def test_half_a_resnet_is_a_quarter():
    with torch.device("meta"):
        whole, half = (build_encoder(name, TrunkOptions()) for name in ("resnet50", "resnet50_half"))
    assert half.channels == tuple(channels // 2 for channels in whole.channels) == (128, 256, 512, 1024)
    assert count_parameters(half) == pytest.approx(count_parameters(whole) / 4, rel=0.01)


OTHERS = ["timm:resnet18", "timm:mobilenetv3_small_050", "timm:regnety_002"]
STRIDES = [(name, stride) for name in FAMILIES for stride in ROWS[name].strides]


@pytest.mark.parametrize(("name", "output_stride"), [*STRIDES, *((name, 8) for name in OTHERS)])
def test_the_coarsest_features_have_the_output_stride(name, output_stride):
    make = built if name.startswith("timm:") else thin
    encoder = make(name, output_stride=output_stride)
    size = (64, 96)
    with torch.inference_mode():
        features = encoder(torch.randn(1, 3, *size))
    assert len(features) == len(encoder.channels) >= 2
    assert tuple(feature.shape[1] for feature in features) == encoder.channels
    strides = [size[0] / feature.shape[-2] for feature in features][-4:]
    assert strides == [size[1] / feature.shape[-1] for feature in features][-4:]
    assert strides == [4, 8, min(16, output_stride), output_stride][: len(features)]


@pytest.mark.parametrize("name", [name for name in FAMILIES if ROWS[name].strides == (8, 16, 32)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_keeps_what_the_strided_network_computes(name, output_stride):
    """So weights that were trained at stride 32 keep their meaning: the features are in between as well."""
    deep = {"deep_stem": True} if name == "resnet18" else {}
    strided, dilated = thin(name, **deep), thin(name, output_stride=output_stride, **deep)
    for network in (strided, dilated):
        for module in network.modules():
            if isinstance(module, SqueezeExcite):  # it sees other means
                nn.init.zeros_(module.expand.weight)
    x = torch.randn(1, 3, 64, 128)
    with torch.inference_mode():
        coarse, fine = strided(x)[-1], dilated(x)[-1]
    step = 32 // output_stride
    if name.startswith("cliquenet"):  # whose features of other blocks, before these, are averaged over larger cells
        own = strided.stages[-1].features
        coarse, fine = coarse[:, -own:], fine[:, -own:]
    assert coarse.std() > 0
    first = step - 1 if name in LITE else 0  # their uneven padding puts a feature at the end of its cell
    first = 1 if name.startswith("convnext") and output_stride == 8 else first  # as its file says
    torch.testing.assert_close(
        fine[..., first::step, first::step], coarse, rtol=1e-3, atol=1e-4 * float(coarse.abs().max())
    )


def test_rates_of_the_stages():
    strided, sixteen, eight = (build_encoder("resnet50", TrunkOptions(s, 0.125)) for s in (32, 16, 8))
    assert set(rates(strided)) == {1}
    assert rates(sixteen.layer4) == [1, 2, 2]
    assert rates(eight.layer3) == [1, 2, 2, 2, 2, 2]
    assert rates(eight.layer4) == [2, 4, 4]
    basic = build_encoder("resnet18", TrunkOptions(8, 0.125))
    assert (rates(basic.layer3), rates(basic.layer4)) == ([1, 2, 2, 2], [2, 4, 4, 4])


@pytest.mark.parametrize(("output_stride", "expected"), [(16, [2, 4, 8]), (8, [4, 8, 16])])
def test_multi_grid_multiplies_the_rates_of_the_last_stage(output_stride, expected):
    encoder = build_encoder("resnet50", TrunkOptions(output_stride, 0.125, multi_grid=(1, 2, 4)))
    assert rates(encoder.layer4) == expected
    assert rates(encoder.layer3) == rates(build_encoder("resnet50", TrunkOptions(output_stride, 0.125)).layer3)


@pytest.mark.parametrize("name", MOBILENETS)
def test_mobilenets_dilate_their_depthwise_convolutions(name):
    encoder = build_encoder(name, TrunkOptions(8, 0.25))
    found = [max(rates(stage)) for stage in encoder.stages]
    assert found == [1, 1, 1, 2, 4]
    assert all(
        layer.groups > 1 for layer in encoder.modules() if isinstance(layer, nn.Conv2d) and max(layer.dilation) > 1
    )


def test_initial_activations_keep_their_scale():
    """He initialisation, also of depthwise convolutions: activations neither fade nor grow without batch norm."""
    torch.manual_seed(0)
    encoder = build_encoder("mobilenet_v1", TrunkOptions()).eval()
    with torch.inference_mode():
        deep = encoder(torch.randn(1, 3, 128, 128))[-1]
    assert 1e-3 < float(deep.square().mean().sqrt()) < 1e3


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("resnet51", {}, r"unknown encoder 'resnet51': did you mean resnet\d+.*or timm:NAME"),
        ("timm:resnet51", {}, r"unknown encoder of timm 'resnet51': did you mean resnet\d+.* others$"),
        ("timm:densenet121", {"output_stride": 8}, r"no features at output stride 8 \(.*\): try 32, or another"),
        ("timm:swin_tiny_patch4_window7_224", {}, r"does not take pictures of any size \(Input .*\): use"),
        ("timm:swinv2_cr_tiny_ns_224", {}, r"does not take pictures of any size"),
        ("timm:resnet18.foo", {}, r"timm does not build resnet18.foo: Invalid pretrained tag"),
        ("timm:vit_tiny_patch16_224", {}, r"features at strides \[16, 16, 16\]: .*output stride 32"),
        ("timm:resnet18", {"width": 0.5}, "encoder timm:resnet18 has no width"),
        ("mobilenet_v2", {"multi_grid": (1, 2, 4)}, "encoder mobilenet_v2 has no multi_grid"),
        ("mobilenet_v3_small", {"deep_stem": True}, "encoder mobilenet_v3_small has no deep_stem"),
        ("resnet18", {"multi_grid": (1, 2, 4)}, "last stage has 2 blocks"),
        ("resnet18", {"output_stride": 4}, "output_stride is 4: allowed are 8, 16 and 32"),
        ("resnet18", {"output_stride": 16.0}, r"output_stride is 16.0: allowed are 8, 16 and 32"),
        ("resnet18", {"width": 0}, "width is 0: allowed is"),
    ],
)  # fmt: skip
def test_what_an_encoder_does_not_have_is_told(name, options, told):
    with pytest.raises(UsageError, match=told):
        build_encoder(name, TrunkOptions(**options))
