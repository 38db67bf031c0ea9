"""Parameters and arithmetic of the encoders match those published in their papers or by their libraries."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torchvision
from parameters import count_parameters
from torch import nn

from rtseg.models.base import count_macs
from rtseg.models.blocks import ConvNormAct
from rtseg.models.encoders import ENCODERS, TrunkOptions, build_encoder
from rtseg.models.encoders.base import StrideBudget
from rtseg.models.encoders.cliquenet import CliqueNetSettings, CliqueStage
from rtseg.models.encoders.densenet import DenseNetSettings, dense_stages
from rtseg.models.encoders.fractalnet import DropPath, Fractal
from rtseg.models.encoders.pyramidnet import pyramid_stages, widths
from rtseg.models.encoders.table import ROWS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def on_meta():
    """Counting sizes needs no memory."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", list(ENCODERS))
def test_a_row_has_the_parameters_of_its_encoder(name):
    row = ROWS[name]
    found = count_parameters(build_encoder(name, TrunkOptions(row.strides[0])))
    assert found / 1e6 == pytest.approx(row.millions, abs=0.0051)


def linear(inputs, outputs):
    return inputs * outputs + outputs


def test_the_page_has_a_line_for_every_encoder():
    page = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert [line for line in lines if line.split("`")[1] in ROWS] == [page_line(name) for name in ROWS]


def page_line(name):
    row = ROWS[name]
    strides, icnet = ", ".join(map(str, row.strides)), "yes" if row.cut else "no"
    cells = (f"`{name}`", row.paper, f"{row.millions:.2f} M", strides, row.imagenet or "-", icnet)
    return f"| {' | '.join(cells)} | {' '.join(row.options()) or '-'} |"


VGG_HEAD = linear(512 * 49, 4096) + linear(4096, 4096) + linear(4096, 1000)


@pytest.mark.parametrize(
    ("name", "published", "classifier"),
    [
        ("densenet121", 7_978_856, linear(1024, 1000)), ("densenet161", 28_681_000, linear(2208, 1000)),
        ("densenet169", 14_149_480, linear(1664, 1000)), ("densenet201", 20_013_928, linear(1920, 1000)),
        ("vgg11", 132_863_336, VGG_HEAD), ("vgg16", 138_357_544, VGG_HEAD),
        ("alexnet", 61_100_840, linear(256 * 36, 4096) + linear(4096, 4096) + linear(4096, 1000)),
        ("googlenet", 6_624_904, linear(1024, 1000)),
        ("seresnet50", 28_088_024, linear(2048, 1000)), ("xception", 22_855_952, linear(2048, 1000)),
        ("convnext_tiny", 28_589_128, linear(768, 1000) + 2 * 768),  # a norm before the classifier
    ],
)  # fmt: skip
def test_a_librarys_encoder_with_its_classifier_has_the_published_parameters(name, published, classifier):
    assert count_parameters(build_encoder(name, TrunkOptions())) + classifier == published


HEADS = {"vgg11": VGG_HEAD, "vgg16": VGG_HEAD, "googlenet": 1_024_000, "convnext_tiny": 768_000,
         "convnext_small": 768_000, "densenet121": 1_024_000, "densenet161": 2_208_000, "densenet169": 1_664_000,
         "densenet201": 1_920_000}  # fmt: skip


@pytest.mark.parametrize("name", list(HEADS))
def test_the_arithmetic_is_what_torchvision_publishes(name):
    """`_ops` are 1e9 multiply-accumulates at 224x224, including the classifier."""
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    macs = count_macs(build_encoder(name, TrunkOptions()), (224, 224))
    assert (macs + HEADS[name]) / 1e9 == pytest.approx(published["_ops"], rel=0.003)


def test_squeeze_and_excitation_costs_what_its_paper_says():
    """About 2.5 million parameters and 0.26 % of the arithmetic of a ResNet-50 (Hu 2018, section 4)."""
    plain, with_it = (build_encoder(name, TrunkOptions()) for name in ("resnet50", "seresnet50"))
    assert (count_parameters(with_it) - count_parameters(plain)) / 1e6 == pytest.approx(2.5, abs=0.05)
    before, after = (count_macs(encoder, (224, 224)) for encoder in (plain, with_it))
    assert 1 < after / before < 1.0026


def on_cifar(stages, channels, stem, normed, classes=10):
    """A classifier of three stages behind one 3x3 convolution: its parameters."""
    first = 3 * stem * 9 + (2 * stem if normed else 0)
    return first + count_parameters(nn.ModuleList(nn.Sequential(*stage) for stage in stages)) + 2 * channels + \
        linear(channels, classes)  # fmt: skip


@pytest.mark.parametrize(
    ("bottleneck", "layers", "growth", "published"),
    [(False, 12, 12, 1.0), (False, 32, 12, 7.0), (False, 32, 24, 27.2),
     (True, 16, 12, 0.8), (True, 41, 24, 15.3), (True, 31, 40, 25.6)],
)  # fmt: skip
def test_densenets_have_the_size_of_their_papers_table(bottleneck, layers, growth, published):
    """Table 2: depths 40, 100 and 100 plain; 100, 250 and 190 in the BC form."""
    settings = DenseNetSettings(growth, (layers,) * 3, bottleneck, 0.5 if bottleneck else 1)
    stem = 2 * growth if bottleneck else 16
    stages, channels = dense_stages(stem, settings, growth, StrideBudget(32))
    assert on_cifar(stages, channels[-1], stem, normed=False) / 1e6 == pytest.approx(published, abs=0.051)


@pytest.mark.parametrize(
    ("depth", "bottleneck", "alpha", "published"),
    [(18, False, 48, 1.7), (18, False, 84, 3.8), (18, False, 270, 28.3), (18, True, 270, 27.0), (22, True, 240, 26.6)],
)
def test_pyramidnets_have_the_size_of_their_papers_table(depth, bottleneck, alpha, published):
    """110 layers of alpha 48, 84 and 270; with bottlenecks 164 of 270 and 200 of 240. The table has up to
    1.5 % less than the layers of its text."""
    steps = widths(16, 3 * depth, "linear", alpha)
    stages, channels = pyramid_stages(16, steps, (depth,) * 3, bottleneck, StrideBudget(32))
    assert on_cifar(stages, channels[-1], 16, normed=True) / 1e6 == pytest.approx(published, rel=0.015, abs=0.051)


def test_a_pyramidnet_has_the_size_that_others_count():
    """pytorchcv's pyramidnet110_a270_cifar10: steps of 5 leave nothing to round."""
    stages, channels = pyramid_stages(16, widths(16, 54, "linear", 270), (18,) * 3, False, StrideBudget(32))
    assert on_cifar(stages, channels[-1], 16, normed=True) == 28_485_477


def test_pyramidnet_200_has_the_size_of_its_paper():
    encoder = build_encoder("pyramidnet200", TrunkOptions())
    assert encoder.channels[-1] == 4 * (64 + 300)
    parameters = count_parameters(encoder) + linear(encoder.channels[-1], 1000)
    assert parameters / 1e6 == pytest.approx(62.1, abs=0.06)


@pytest.mark.parametrize(("columns", "published"), [(1, 0.3), (2, 0.8), (3, 2.1), (4, 4.8), (5, 10.2)])
def test_fractalnets_have_the_size_of_their_papers_table(columns, published):
    """Table 3: five blocks of 16 to 128 channels."""
    channels = (3, 16, 32, 64, 128, 128)
    blocks = [Fractal(*pair, columns, None, 1, DropPath(columns, 0)) for pair in pairwise(channels)]
    parameters = count_parameters(nn.ModuleList(blocks)) + linear(128, 100)
    assert parameters / 1e6 == pytest.approx(published, abs=0.061)


@pytest.mark.parametrize(
    ("channels", "layers", "parameters", "flops"),
    [(36, 4, 0.94, 0.91), (64, 5, 4.49, 4.21), (80, 5, 6.94, 6.45), (80, 6, 10.14, 9.45)],
)
def test_cliquenets_have_the_size_of_their_papers_table(channels, layers, parameters, flops):
    """Three blocks on CIFAR, without the paper's options; two FLOPs are one multiply-accumulate."""
    settings, budget = CliqueNetSettings(bottleneck=False, compress=False), StrideBudget(32)

    class OnCifar(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            first = CliqueStage(64, channels, layers, settings, budget, first=True)
            others = [CliqueStage(layers * channels, channels, layers, settings, budget, first=False) for _ in "23"]
            self.stages = nn.ModuleList([first, *others])

        def forward(self, x):
            x = self.first(x)
            for stage in self.stages:
                _, x = stage(x)

    network = OnCifar()
    seen = sum(stage.features for stage in network.stages)
    assert (count_parameters(network) + linear(seen, 10)) / 1e6 == pytest.approx(parameters, rel=0.006)
    assert 2 * count_macs(network, (32, 32)) / 1e9 == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize(
    ("name", "attention", "published"),
    [("cliquenet_s0", False, 5.7), ("cliquenet_s1", False, 7.96), ("cliquenet_s2", False, 10.00),
     ("cliquenet_s3", True, 14.38)],
)  # fmt: skip
def test_cliquenets_for_imagenet_have_the_size_of_their_paper(name, attention, published):
    encoder = build_encoder(name, TrunkOptions(settings={"attention": attention}))
    parameters = count_parameters(encoder) + linear(encoder.channels[-1], 1000)
    assert parameters / 1e6 == pytest.approx(published, abs=0.0051)


def test_lenet5_has_the_size_that_is_known_of_it():
    """61,706 with one colour, all connections in the second convolution, and a linear output layer."""
    dense = linear(120, 84) + linear(84, 10)
    two_colours = 2 * 6 * 25
    assert count_parameters(build_encoder("lenet5", TrunkOptions(8))) - two_colours + dense == 61_706


def test_what_moving_taps_cost():
    """As their file says: 25 instead of 9 products for each pair of channels; 162 for each channel for the offsets."""
    plain, active, deformable = (
        count_macs(build_encoder("resnet18", TrunkOptions(settings={"conv": conv, "conv_count": 1})), (64, 96))
        for conv in ("plain", "active", "deformable")
    )
    places = 2 * 3  # at stride 32
    weight_macs = 512 * 512 * 9 * 25  # of making the 5x5 kernel, which engines do when they load the graph
    assert active - plain == places * 512 * 512 * (25 - 9) + weight_macs
    assert deformable - plain == places * 512 * 9 * 18


def test_width_scales_the_growth_of_a_densenet():
    half = build_encoder("densenet121", TrunkOptions(width=0.5))
    same = build_encoder("densenet121", TrunkOptions(settings={"growth": 16}))
    assert half.channels == same.channels == (128, 256, 512, 512)
    assert isinstance(half.stages[0][0], ConvNormAct)


@pytest.mark.parametrize(
    ("form", "channels"),
    [({}, (160, 160, 160, 160)), ({"compression": 1}, (160, 240, 320, 400)),
     ({"bottleneck": False}, (160, 160, 160, 160)), ({"bottleneck": False, "compression": 1}, (160, 240, 320, 400))],
)  # fmt: skip
def test_the_forms_of_a_densenet(form, channels):
    """BC, B, C and plain: two layers of growth 40 add 80 channels to the stem's 80; transitions keep half or all."""
    encoder = build_encoder("densenet121", TrunkOptions(settings={"growth": 40, "layers": [2, 2, 2, 2], **form}))
    assert encoder.channels == channels
    ones = sum(layer.kernel_size == (1, 1) for layer in encoder.modules() if isinstance(layer, nn.Conv2d))
    assert ones == 3 + 8 * form.get("bottleneck", True)  # transitions, and one for each layer
