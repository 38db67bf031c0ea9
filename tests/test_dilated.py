"""PSPNet and DeepLab-v3: their context modules, rates and sizes."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from parameters import count_parameters
from test_encoders import rates
from tiny import SMALL, lively, randomise
from torch import nn

from rtseg.core.errors import UsageError
from rtseg.models import build_model
from rtseg.models.base import count_inference_parameters, count_macs
from rtseg.models.deeplabv3 import AtrousPyramid
from rtseg.models.pyramid import PyramidConcat, PyramidPooling

pytestmark = pytest.mark.slow

THIN = {"encoder": "resnet50", "width": 0.125, "channels": 16}
PAPER_SIZE = (1024, 2048)


def test_pspnet_has_the_layers_of_its_paper():
    config = {"classes": 19, "encoder": "resnet101", "deep_stem": True, "channels": 512}
    with torch.device("meta"):
        model = build_model("pspnet", config)
        trunk = count_parameters(torchvision.models.resnet101()) - 2_049_000
    assert count_inference_parameters(model) == pytest.approx(
        65.7e6, rel=0.005
    )  # 250.8 MB of float32 (ICNet's table 5)
    stem = 3 * 64 * 9 + 64 * 64 * 9 + 64 * 128 * 9 + 2 * 256  # instead of 64 * 3 * 49 + 128
    wider = stem - (3 * 64 * 49 + 128) + 64 * (64 + 256)  # the first block reads 128 channels
    head = 4 * (2048 * 512 + 1024) + 4096 * 512 * 9 + 1024 + 512 * 19 + 19
    assert count_inference_parameters(model) == trunk + wider + head


def test_deeplab_has_the_size_of_torchvisions():
    """torchvision's is the paper's network at output stride 8, without multi-grid."""
    config = {"classes": 21, "encoder": "resnet101", "separable": False, "multi_grid": (1, 1, 1), "output_stride": 8}
    with torch.device("meta"):
        ours = build_model("deeplabv3", config)
        theirs = torchvision.models.segmentation.deeplabv3_resnet101(
            weights=None, weights_backbone=None, num_classes=21
        )
        # torchvision has one more 3x3 convolution with batch norm behind the pyramid
        assert count_parameters(ours) == count_parameters(theirs) - (256 * 256 * 9 + 512)


@pytest.mark.parametrize("encoder", ["resnet50", "resnet101"])
def test_deeplab_has_the_arithmetic_and_the_weights_that_torchvision_publishes(encoder):
    """torchvision's `_ops` are 1e9 multiply-accumulates at 520x520; its network also has an auxiliary head and one more
    3x3 convolution."""
    published = getattr(torchvision.models.segmentation, f"DeepLabV3_{encoder.replace('resnet', 'ResNet')}_Weights")
    meta = published.DEFAULT.meta
    config = {"classes": 21, "encoder": encoder, "separable": False, "multi_grid": (1, 1, 1), "output_stride": 8}
    with torch.device("meta"):
        ours = build_model("deeplabv3", config)
    more = 256 * 256 * 9
    auxiliary, classifier = 1024 * 256 * 9, 256 * 21
    macs = count_macs(ours, (520, 520)) + 65 * 65 * (more + auxiliary + classifier)
    assert macs / 1e9 == pytest.approx(meta["_ops"], abs=0.001)
    norms, bias = 2 * 512, 21
    assert count_parameters(ours) + more + auxiliary + classifier + norms + bias == meta["num_params"]


@pytest.mark.parametrize(
    ("name", "output_stride", "gmac"),
    [("pspnet", 8, 258.6), ("pspnet", 16, 80.6), ("deeplabv3", 8, 246.7), ("deeplabv3", 16, 77.6)],
)
def test_arithmetic_of_the_default_networks(name, output_stride, gmac):
    with torch.device("meta"):
        model = build_model(name, {"output_stride": output_stride})
    assert count_macs(model, PAPER_SIZE) == pytest.approx(gmac * 1e9, rel=0.001)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_output_stride_decides_what_fits_and_what_comes(name, output_stride):
    model = lively(name, {**THIN, "output_stride": output_stride})
    assert (model.size_multiple, model.logits_stride) == (output_stride, output_stride)
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 96, 160)).shape == (1, 11, 96 // output_stride, 160 // output_stride)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3"])
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "timm:mobilenetv3_small_050"])
def test_any_encoder_serves(name, encoder):
    model = lively(name, {"encoder": encoder, "channels": 16, "output_stride": 16})
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 11, 4, 6)
    assert model.config_json()["encoder"] == encoder


def test_weights_of_one_output_stride_serve_another():
    """The paper also evaluates at 8 a network trained at 16."""
    sixteen, eight = (lively("deeplabv3", {**THIN, "output_stride": stride}) for stride in (16, 8))
    assert sixteen.state_dict().keys() == eight.state_dict().keys()
    eight.load_state_dict(sixteen.state_dict())


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (6, 6), (11, 15)])
def test_levels_of_the_pyramid_are_those_of_adaptive_pooling(size, monkeypatch):
    pyramid = randomise(PyramidConcat(8, 4)).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    expected = [x]
    for bins, level in zip((1, 2, 3, 6), pyramid.levels, strict=True):
        expected.append(F.interpolate(level(F.adaptive_avg_pool2d(x, bins)), size, mode="bilinear"))
    torch.testing.assert_close(pyramid(x), torch.cat(expected, 1), rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.delattr(F, "adaptive_avg_pool2d")  # an export uses matrices instead
    torch.testing.assert_close(pyramid(x), torch.cat(expected, 1), rtol=1e-5, atol=1e-6)
    assert pyramid.channels == 8 + 4 * 4


def test_the_auxiliary_classifier_reads_stage_4():
    model = build_model("pspnet", THIN).train()
    assert model.auxiliary_weights == (0.4,)
    (auxiliary,) = model.forward_train(torch.randn(2, 3, 64, 96)).auxiliary
    assert auxiliary.shape == (2, 11, 8, 12)
    auxiliary.square().mean().backward()
    assert model.encoder.layer3[-1].residual[0][0].weight.grad.any()
    assert model.encoder.layer4[0].residual[0][0].weight.grad is None


@pytest.mark.parametrize(
    ("output_stride", "separable", "expected"),
    [(16, False, [6, 12, 18]), (8, False, [12, 24, 36]), (16, True, [6, 12, 18])],
)
def test_rates_of_the_atrous_pyramid(output_stride, separable, expected):
    model = build_model("deeplabv3", {**THIN, "output_stride": output_stride, "separable": separable})
    assert rates(model.context) == expected
    assert len(model.context.branches) == 4
    for branch in [*model.context.branches, model.context.picture, model.context.project]:
        assert isinstance(branch[-1][1] if isinstance(branch[-1], nn.Sequential) else branch[1], nn.BatchNorm2d)
    assert rates(model.encoder.layer4) == [rate * 16 // output_stride for rate in (2, 4, 8)]  # multi-grid (1, 2, 4)


@pytest.mark.parametrize(("output_stride", "first"), [(16, 2), (8, 4)])
def test_the_cascade_doubles_its_rates_from_block_to_block(output_stride, first):
    model = lively("deeplabv3", {**THIN, "form": "cascade", "output_stride": output_stride})
    blocks = [model.encoder.layer4, *model.context]  # blocks 4 to 7
    assert [rates(block) for block in blocks] == [[first * 2**n * unit for unit in (1, 2, 4)] for n in range(4)]
    plain = build_model("deeplabv3", {**THIN, "form": "cascade", "multi_grid": [1, 1, 1]})
    assert [rates(block) for block in plain.context] == [[8] * 3, [16] * 3, [32] * 3]
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 11, 64 // output_stride, 96 // output_stride)


def valid_taps(rate, size=65):
    """Share of the positions at which 1, 4 (or another count) and 9 taps of a 3x3 kernel are inside the features.

    Uses the pyramid's own convolution: with ones everywhere, its output counts them.
    """
    convolution = AtrousPyramid(1, 1, (rate,), separable=False).branches[1][0]
    nn.init.ones_(convolution.weight)
    with torch.inference_mode():
        counts = convolution(torch.ones(1, 1, size, size)).round().long().flatten()
    return {taps: float((counts == taps).float().mean()) for taps in counts.unique().tolist()}


def test_a_large_rate_leaves_a_3x3_kernel_its_centre_only():
    """Why the pyramid has the image mean (figure 4 of the paper, for 65x65 features)."""
    for rate in (1, 6, 12, 18, 24, 32):
        assert valid_taps(rate)[9] == pytest.approx(((65 - 2 * rate) / 65) ** 2)  # all nine fall as the rate grows
    shares = [valid_taps(rate).get(1, 0.0) for rate in (32, 36, 48, 60, 64)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] > 0.9
    assert valid_taps(65) == {1: 1.0}  # a 1x1 convolution


@pytest.mark.parametrize("separable", [False, True])
def test_at_a_rate_of_the_size_of_the_features_only_the_centre_weight_matters(separable):
    torch.manual_seed(0)
    branch = randomise(AtrousPyramid(8, 4, (12,), separable)).branches[1]
    convolution = branch[0][0] if separable else branch[0]
    branch(torch.randn(1, 8, 12, 12)).square().sum().backward()
    gradient = convolution.weight.grad.abs().sum((0, 1))
    assert gradient[1, 1] > 0
    gradient[1, 1] = 0
    assert not gradient.any()


def test_the_pictures_mean_reaches_every_place():
    context = randomise(AtrousPyramid(8, 4, (16,), False))
    x = torch.randn(1, 8, 12, 12, requires_grad=True)
    context(x)[0, :, 0, 0].sum().backward()
    assert x.grad[0, :, 5, 9].any()  # neither the centre nor a tap of any kernel at the corner


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3"])
def test_one_picture_alone_cannot_train(name):
    with pytest.raises(UsageError, match="batch size of 2"):
        build_model(name, SMALL[name]).train().forward_train(torch.randn(1, 3, 64, 96))


@pytest.mark.parametrize(
    ("name", "config", "told"),
    [
        ("deeplabv3", {"form": "ring"}, "form is 'ring': allowed are aspp, cascade"),
        ("deeplabv3", {"form": "cascade", "encoder": "mobilenet_v2"}, "mobilenet_v2 is not; use form 'aspp'"),
        ("deeplabv3", {"rates": []}, "at least one rate"),
        ("deeplabv3", {"multi_grid": [1, 0, 1]}, "unit rates must be at least 1"),
        ("deeplabv3", {"multi_grid": [1, 2], "encoder": "resnet50"}, "last stage has 3 blocks"),
        ("deeplabv3", {"multi_grid": [1, 2, 4], "encoder": "mobilenet_v2"}, "mobilenet_v2 has no multi_grid"),
        ("pspnet", {"output_stride": 12}, "output_stride is 12"),
        ("pspnet", {"width": "wide"}, "PSPNet cannot be built"),
        ("pspnet", {"encoder": "resnet49"}, "did you mean resnet"),
        ("pspnet", {"dropout": 1}, "dropout in"),
    ],
)  # fmt: skip
def test_configs_that_do_not_fit_are_told(name, config, told):
    with pytest.raises(UsageError, match=told):
        build_model(name, config)


@pytest.mark.parametrize("make", [lambda: PyramidPooling(), lambda: PyramidConcat(8, 4)], ids=["sum", "concat"])
def test_deterministic_training_pools_by_matrices(make, monkeypatch):
    """CUDA's adaptive pooling has no deterministic gradient; the matrices give the same values."""
    torch.manual_seed(0)
    pyramid, x = make().train(), torch.randn(2, 8, 20, 30)
    usual = pyramid(x)

    def refuse(*arguments):
        raise RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation")

    monkeypatch.setattr(F, "adaptive_avg_pool2d", refuse)
    torch.use_deterministic_algorithms(True)
    try:
        torch.testing.assert_close(pyramid(x), usual, rtol=1e-4, atol=1e-5)
    finally:
        torch.use_deterministic_algorithms(False)
    with pytest.raises(RuntimeError, match="deterministic"):
        pyramid(x)
