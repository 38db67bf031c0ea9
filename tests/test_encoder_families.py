"""What is special about each family of encoders: worked out by hand, or against an independent computation."""

import pytest
import torch
import torch.nn.functional as F
from tiny import randomise
from torch import nn
from torchvision.ops import deform_conv2d

from rtseg.core.errors import UsageError
from rtseg.models import build_model
from rtseg.models.encoders import TrunkOptions, build_encoder, setting_names
from rtseg.models.encoders.cliquenet import CliqueBlock
from rtseg.models.encoders.config import EncoderConfig
from rtseg.models.encoders.fractalnet import DropPath, Fractal
from rtseg.models.encoders.pooling import Pool
from rtseg.models.encoders.pyramidnet import PyramidBlock, widths
from rtseg.models.encoders.sampling import ActiveConv2d, DeformableConv2d
from rtseg.models.encoders.squeeze import SqueezeExcite
from rtseg.models.encoders.table import ROWS
from rtseg.training.config import TrainConfig
from rtseg.training.start import architecture, differing

pytestmark = pytest.mark.slow


def conv(stride=1, dilation=1):
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, stride, dilation, dilation, bias=False)


# moving taps


def test_a_deformable_convolution_is_torchvisions():
    for stride, dilation in ((1, 1), (2, 1), (1, 2)):
        plain, x = conv(stride, dilation), torch.randn(2, 4, 9, 12)
        layer = DeformableConv2d(plain)
        torch.testing.assert_close(layer(x), plain(x), atol=1e-5, rtol=1e-5)  # it starts as the plain one
        nn.init.normal_(layer.offset.weight, 0, 0.2)
        nn.init.normal_(layer.offset.bias, 0, 0.5)
        shifts = layer.offset(x)
        pairs = torch.stack([shifts[:, :9], shifts[:, 9:]], 2).flatten(1, 2) * dilation  # y and x of each tap in turn
        expected = deform_conv2d(x, pairs, plain.weight, None, stride, dilation, dilation)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_an_active_convolution_is_a_deformable_one_with_the_same_shift_everywhere():
    for stride in (1, 2):
        plain, x = conv(stride), torch.randn(2, 4, 9, 12)
        layer = ActiveConv2d(plain)
        torch.testing.assert_close(layer(x), plain(x), atol=1e-5, rtol=1e-5)
        nn.init.uniform_(layer.offset, -0.9, 0.9)  # within the window
        height, width = plain(x).shape[-2:]
        pairs = torch.stack([layer.offset[:9], layer.offset[9:]], 1).flatten()
        everywhere = pairs[None, :, None, None].expand(2, -1, height, width)
        expected = deform_conv2d(x, everywhere, plain.weight, None, stride, 1)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_a_dilated_active_convolution_sees_what_the_strided_network_saw():
    layer, spread = ActiveConv2d(conv()), ActiveConv2d(conv(dilation=2))
    nn.init.uniform_(layer.offset, -0.9, 0.9)
    spread.offset.data = layer.offset.data
    x = torch.randn(2, 4, 8, 12)
    torch.testing.assert_close(spread(x)[..., 1::2, ::2], layer(x[..., 1::2, ::2]), atol=1e-5, rtol=1e-5)


def test_an_active_tap_half_a_place_on_reads_the_mean_of_two():
    layer = ActiveConv2d(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    layer.weight.data.zero_()
    layer.weight.data[0, 0, 1, 1] = 1  # only the middle tap counts: the fifth
    layer.offset.data[9 + 4] = 0.5  # in x
    x = torch.tensor([[1.0, 3.0, 7.0, 15.0]]).expand(1, 1, 3, 4)
    assert layer(x)[0, 0, 1].tolist() == [2, 5, 11, 7.5]  # beyond the picture: 0
    layer.offset.data[9 + 4] = 9.0  # no further than two places
    assert layer(x)[0, 0, 1].tolist() == [7, 15, 0, 0]


@pytest.mark.parametrize("kind", [ActiveConv2d, DeformableConv2d])
def test_taps_leave_their_first_places(kind):
    layer = kind(conv())
    layer(torch.randn(2, 4, 9, 12)).square().mean().backward()
    moved = [value.grad for name, value in layer.named_parameters() if name.startswith("offset")]
    assert all(value is not None and value.any() for value in moved)


def test_the_last_convolutions_move_and_keep_the_features():
    def features(**settings):
        torch.manual_seed(0)
        encoder = randomise(build_encoder("resnet18", TrunkOptions(16, 0.25, settings=settings)))
        torch.manual_seed(1)
        with torch.inference_mode():
            return encoder, encoder(torch.randn(1, 3, 64, 96))[-1]

    _, expected = features()
    for name, kind in (("active", ActiveConv2d), ("deformable", DeformableConv2d)):
        encoder, found = features(conv=name, conv_count=5)
        replaced = [key for key, layer in encoder.named_modules() if isinstance(layer, kind)]
        assert replaced == ["layer3.1.residual.1.0", *(f"layer4.{b}.residual.{c}.0" for b in (0, 1) for c in (0, 1))]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# poolings


def test_a_pooling_without_stride_is_the_strided_one_in_between():
    x = torch.randn(1, 2, 8, 12)
    for kind, kernel in (("max", 2), ("max", 3), ("mean", 2)):
        strided, dense = (Pool(kind, kernel, stride, 1)(x) for stride in (2, 1))
        torch.testing.assert_close(dense[..., ::2, ::2], strided)
        spread = Pool(kind, kernel, 1, 2)(x.repeat_interleave(2, -1).repeat_interleave(2, -2))
        torch.testing.assert_close(spread[..., ::4, ::4], strided)


def test_a_centred_pooling_is_torchs():
    x = torch.randn(1, 2, 5, 7) - 3
    assert torch.equal(Pool("max", 3, 1, 1, centred=True)(x), F.max_pool2d(x, 3, 1, 1))


# squeeze and excitation


def test_squeeze_and_excitation_by_hand():
    gate = SqueezeExcite(2, 1, nn.Sigmoid())
    for layer, weight, bias in ((gate.reduce, [2.0, 1.0], [-1.0]), (gate.expand, [0.0, 1.0], [0.0, -4.0])):
        layer.weight.data = torch.tensor(weight).reshape(layer.weight.shape)
        layer.bias.data = torch.tensor(bias)
    x = torch.stack([torch.full((2, 2), 1.0), torch.tensor([[0.0, 2.0], [4.0, 6.0]])])[None]  # means 1 and 3
    # relu(2 * 1 + 1 * 3 - 1) = 4; sigmoid(0) = sigmoid(4 - 4) = a half
    torch.testing.assert_close(gate(x), x / 2)


# PyramidNet


def test_widths_of_a_pyramid():
    assert widths(16, 3, "linear", 10) == [19, 22, 26]  # 16 + 3.33, 6.67, 10
    assert widths(16, 2, "multiplicative", 4) == [32, 64]
    assert widths(16, 3, "multiplicative", 2) == [20, 25, 32]  # 20.16, 25.4, 32


@pytest.mark.parametrize(
    ("settings", "width", "last"),
    [({}, 1.0, 512), ({"alpha": 100}, 1.0, 164), ({"alpha": 100}, 0.5, 82),
     ({"widening": "multiplicative"}, 1.0, 512), ({"widening": "multiplicative", "alpha": 2}, 0.5, 64)],
)  # fmt: skip
def test_alpha_and_width_of_a_pyramid(settings, width, last):
    with torch.device("meta"):
        encoder = build_encoder("pyramidnet18", TrunkOptions(width=width, settings=settings))
    assert encoder.channels[-1] == last


def test_a_pyramids_shortcut_is_averaged_and_filled_with_zeros():
    from rtseg.models.encoders.base import StrideBudget

    block = PyramidBlock(2, 3, bottleneck=False, halves=True, budget=StrideBudget(32)).eval()
    nn.init.zeros_(block.residual[-1].weight)  # the residual is its last norm's bias: 0
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    out = block(x)
    assert out[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert out[0, 1].tolist() == [[18.5, 20.5], [26.5, 28.5]]
    assert not out[0, 2].any()


# FractalNet


class PlusOne(nn.Module):
    def forward(self, x):
        return x + 1


def counting(columns, column=None):
    """A fractal whose convolutions add 1, so that the end of a path shows how many it has passed."""
    fractal = Fractal(1, 1, columns, column, 1, DropPath(columns, 0.15)).eval()
    for module in fractal.modules():
        if isinstance(module, Fractal) and module.short is not None:
            module.short = PlusOne()
    return fractal


def test_joins_of_a_fractal_are_means():
    # f_1 = 1; f_2 = (1 + 2) / 2; f_3 joins 1, f_2 + 1 and f_2 + 2
    for columns, expected in ((1, 1.0), (2, 1.5), (3, (1 + 2.5 + 3.5) / 3)):
        assert float(counting(columns)(torch.zeros(()))) == pytest.approx(expected)


def test_a_column_alone_is_as_deep_as_it_should():
    assert [float(counting(4, column)(torch.zeros(()))) for column in (1, 2, 3, 4)] == [1, 2, 4, 8]


@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_global_drop_path_lets_one_column_through(column):
    fractal = counting(4).train()
    fractal.drop.column, fractal.drop.globally = torch.tensor(column), torch.tensor(True)
    assert float(fractal(torch.zeros(()))) == 2**column


def test_local_drop_path_keeps_one_at_least():
    torch.manual_seed(0)
    drop = DropPath(4, 0.9)  # `globally` is off
    for _ in range(100):
        shares = drop.shares(3)
        kept = shares[shares > 0]
        assert len(kept) >= 1
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / len(kept)))
    often = torch.stack([DropPath(4, 0.5).shares(2) for _ in range(400)])
    assert 0.4 < float(often[:, 0].mean()) < 0.6
    assert {tuple(row) for row in often.tolist()} == {(1, 0), (0, 1), (0.5, 0.5)}


def test_drop_path_is_drawn_for_each_batch_and_only_in_training():
    torch.manual_seed(0)
    network = build_encoder("fractalnet34", TrunkOptions(32, 0.125, settings={"columns": 2, "drop_path": 0.5}))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        drawn = {round(float(network(x)[-1].mean()), 4) for _ in range(6)}
        network.eval()
        assert torch.equal(network(x)[-1], network(x)[-1])
    assert len(drawn) > 1


def test_one_column_starts_from_a_network_of_all():
    fields = {"encoder": "fractalnet34", "width": 0.125, "columns": 3, "channels": 16}
    whole, alone = build_model("pspnet", fields), build_model("pspnet", {**fields, "column": 2})
    assert differing(alone, whole) == ["column"]
    state = whole.state_dict()
    assert {key: value.shape for key, value in alone.state_dict().items()}.items() <= {
        key: value.shape for key, value in state.items()
    }.items()
    alone.load_state_dict({key: value for key, value in state.items() if key in alone.state_dict()})
    for module in whole.encoder.modules():  # batch norm as at inference; joins as in global drop-path
        module.training = isinstance(module, Fractal)
        if isinstance(module, Fractal):
            module.drop.draw = lambda device: None
            module.drop.column, module.drop.globally = torch.tensor(1), torch.tensor(True)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(alone.eval().encoder(x), whole.encoder(x))


# CliqueNet


def test_a_clique_of_two_layers_by_hand():
    block = CliqueBlock(1, 1, 2, bottleneck=True, dilation=1).eval()
    block.spread = nn.ModuleList()  # 1x1 connections only
    for norm in (*block.norms_1, *block.norms_2):
        norm.eps = 0.0
    weights = {(0, 1): 2.0, (0, 2): 3.0, (1, 2): 5.0, (2, 1): 7.0}
    for index, other in ((0, 2), (1, 1)):
        block.from_input[index].weight.data.fill_(weights[0, index + 1])
        block.between[index].weight.data.fill_(weights[other, index + 1])
    # I: X_1 = 2, X_2 = 3 + 5 * 2 = 13. II: X_1 = 7 * 13 = 91, X_2 = 5 * 91 = 455
    assert block(torch.ones(1, 1, 1, 1)).flatten().tolist() == [91, 455]


def test_stages_of_a_clique_share_their_weights():
    block = CliqueBlock(4, 3, 3, bottleneck=True, dilation=1)
    convolutions = [value for value in block.parameters() if value.ndim == 4]
    # to each layer: from the input, from the two others; and its 3x3
    assert sorted(value.numel() for value in convolutions) == [12] * 3 + [18] * 3 + [81] * 3


# fields of an encoder's own


def test_an_encoders_own_fields_stand_beside_the_networks():
    fields = {"encoder": "densenet121", "growth": 8, "layers": [1, 1, 1, 1], "channels": 16, "output_stride": 16}
    model = build_model("pspnet", fields)
    stored = model.config_json()
    assert stored["growth"] == 8
    assert stored["layers"] == [1, 1, 1, 1]
    assert "settings" not in stored
    again = build_model("pspnet", stored)
    assert again.config == model.config
    assert again.encoder.channels == (24, 20, 18, 17)  # 16 + 8, halved and 8 more


def test_no_encoder_has_a_field_that_networks_have():
    networks = {*EncoderConfig.__dataclass_fields__, "form", "rates", "separable", "decoder", "high", "detail"}
    for name in ROWS:
        assert not networks & set(setting_names(name)), name


@pytest.mark.parametrize("model", ["icnet", "deeplabv3", "swiftnet"])
def test_every_network_on_an_encoder_takes_its_fields(model):
    network = build_model(model, {"encoder": "resnet18", "conv": "active", "conv_count": 1})
    assert sum(isinstance(layer, ActiveConv2d) for layer in network.modules()) == 1


@pytest.mark.parametrize(
    ("model", "fields", "told"),
    [
        ("pspnet", {"encoder": "resnet18", "cnv": "active"}, "field of PSPNet on resnet18 'cnv': did you mean conv"),
        ("pspnet", {"encoder": "vgg11", "conv": "active"}, "unknown field of PSPNet on vgg11 'conv'"),
        ("pspnet", {"encoder": "timm:resnet18", "conv": "active"}, "unknown field of PSPNet on timm:resnet18 'conv'"),
        ("icnet", {"conv": "active"}, "unknown field of ICNet 'conv'"),
        ("pspnet", {"encoder": "resnet18", "conv": "square"}, "'square': allowed are plain, active, deformable"),
        ("pspnet", {"encoder": "resnet18", "conv": "active", "conv_count": 99}, "has 16 3x3 convolutions behind"),
        ("pspnet", {"encoder": "resnet18", "conv_count": 0}, "conv_count is 0: it must be a whole number"),
        ("pspnet", {"encoder": "densenet121", "layers": [1, 2]}, "an encoder has four blocks"),
        ("pspnet", {"encoder": "densenet121", "layers": 3}, "layers is 3: it must be a list"),
        ("pspnet", {"encoder": "densenet121", "growth": 1.5}, "growth is 1.5: it must be a whole number"),
        ("pspnet", {"encoder": "densenet121", "compression": 2}, "compression is 2: allowed is above 0 to 1"),
        ("pspnet", {"encoder": "densenet121", "compression": "x"}, "cannot be built from"),
        ("pspnet", {"encoder": "densenet121", "bottleneck": 1}, "bottleneck is 1: allowed are true and false"),
        ("pspnet", {"encoder": "pyramidnet18", "widening": "wide"}, "allowed are linear and multiplicative"),
        ("pspnet", {"encoder": "pyramidnet18", "widening": "multiplicative", "alpha": 0.5}, "must be at least 1"),
        ("pspnet", {"encoder": "fractalnet34", "columns": 9}, "columns is 9: allowed is 1 to 6"),
        ("pspnet", {"encoder": "fractalnet34", "column": 5}, "column is 5: allowed is 1 to 4"),
        ("pspnet", {"encoder": "fractalnet34", "drop_path": 1}, "drop_path is 1: allowed is 0 to below 1"),
        ("pspnet", {"encoder": "cliquenet_s0", "attention": "yes"}, "attention is 'yes': allowed are true and false"),
        ("pspnet", {"encoder": "lenet5", "output_stride": 16}, "lenet5 has no output stride 16: allowed here is 8$"),
        ("swiftnet", {"encoder": "lenet5"}, "lenet5 has no output stride 32: allowed here is 8$"),
        ("pspnet", {"encoder": "alexnet", "width": 0.5}, "alexnet has no width: leave width out"),
        ("pspnet", {"encoder": "vgg11", "deep_stem": True}, "vgg11 has no deep_stem, only width: leave deep_stem out"),
        ("icnet", {"encoder": "lenet5"}, "LeNet5 cannot be cut at a stride: choose a mobilenet"),
        ("icnet", {"encoder": "cliquenet_s0"}, "CliqueNet cannot be cut at a stride: choose a mobilenet"),
        ("pspnet", {"encoder": "densenet"}, r"unknown encoder 'densenet': did you mean densenet\d+.*models --encoders"),
    ],
)  # fmt: skip
def test_wishes_that_an_encoder_cannot_fulfil_are_told(model, fields, told):
    with torch.device("meta"), pytest.raises(UsageError, match=told):
        build_model(model, fields)


def test_another_encoder_drops_the_fields_of_the_one_before():
    class Before:
        model = "pspnet"
        config = {"encoder": "densenet121", "growth": 8, "channels": 64}  # noqa: RUF012

    config = TrainConfig(model="pspnet", encoder="resnet18", set=("conv=active",))
    assert architecture(config, Before()) == {"encoder": "resnet18", "channels": 64, "conv": "active"}
    same = TrainConfig(model="pspnet", set=("growth=4",))
    assert architecture(same, Before()) == {"encoder": "densenet121", "growth": 4, "channels": 64}
