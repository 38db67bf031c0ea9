"""Which channels depend on each other, which are cut, and that the pruned network computes the same as before."""

import copy
import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from parameters import count_parameters
from tiny import SMALL, TinyConfig, TinyNet, lively, register_tiny
from torch import nn

from rtseg.core.errors import UsageError
from rtseg.models import MODELS, build_model
from rtseg.models.base import LAST, SegmentationModel, count_macs
from rtseg.models.pruned import narrow
from rtseg.training.pruning.bn import bn
from rtseg.training.pruning.channels import trace
from rtseg.training.pruning.norms import l1, l2
from rtseg.training.pruning.prune import PAPER_SIZE, Chosen, cut, kept_units, rank, rounded, share_for_macs

pytestmark = pytest.mark.slow

FURTHER = [
    ("icnet", {"encoder": "mobilenet_v3_small", "high": "trunk", "shared_stride": 16, "detail": True, "width": 0.125}),
    ("swiftnet", {"encoder": "resnet18", "width": 0.125, "channels": 32, "decoder": "attention"}),
    ("swiftnet", {"encoder": "mobilenet_v1", "width": 0.25, "channels": 32, "decoder": "separable"}),
    ("pspnet", {"encoder": "pyramidnet18", "width": 0.125, "channels": 16, "exits": 1}),
    ("deeplabv3", {"encoder": "resnet34", "width": 0.125, "form": "cascade"}),
    ("deeplabv3", {"encoder": "mobilenet_v2", "width": 0.25, "channels": 32, "logits_stride": 4}),
]
NETWORKS = [*((name, config) for name, config in SMALL.items() if name != "smp"), ("smp:unet:resnet18", {}), *FURTHER]
GENERATOR = torch.Generator()


def halved(model: SegmentationModel, keep: float = 0.5) -> SegmentationModel:
    chosen = rank(model, "l1")
    return cut(model, chosen, kept_units(chosen, keep))


def silenced(model: SegmentationModel, chosen: Chosen, kept: set[int]) -> SegmentationModel:
    """The network with the filters, biases and batch norms of the cut channels set to zero."""
    gone = {unit for units, _ in chosen.groups for unit in units} - kept
    silent = copy.deepcopy(model)
    with torch.no_grad():
        for name, seen in chosen.channels.layers.items():
            layer: Any = silent.get_submodule(name)
            dead = [index for index, unit in enumerate(seen.outputs) if unit in gone]
            if isinstance(layer, nn.PReLU):
                continue
            weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
            weight[dead] = 0
            if layer.bias is not None:
                layer.bias[dead] = 0
    return silent


@pytest.mark.parametrize(("name", "config"), NETWORKS, ids=lambda value: value if isinstance(value, str) else "")
def test_cutting_silent_channels_changes_nothing(name: str, config: dict[str, Any]) -> None:
    """The dependency graph is right if every network computes the same without those channels."""
    model = lively(name, config)
    chosen = rank(model, "bn")
    kept = kept_units(chosen, 0.5, "global")
    small, silent = cut(model, chosen, kept), silenced(model, chosen, kept)
    picture = torch.randn(2, 3, 2 * model.size_multiple, 2 * model.size_multiple)
    with torch.no_grad():
        expected, found = silent.forward_train(picture), small.forward_train(picture)
    for one, other in zip((found.logits, *found.auxiliary), (expected.logits, *expected.auxiliary), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * max(1.0, float(other.abs().max())))
    assert found.logits.shape[1] == 11
    assert float(expected.logits.std()) > 1e-4, "logits that are all alike would compare equal"
    assert count_parameters(small) < 0.7 * count_parameters(model)

    again = build_model(name, json.loads(json.dumps(small.config_json())))  # as from a card
    again.load_state_dict(small.state_dict())
    assert again.config == small.config
    with torch.no_grad():
        assert torch.equal(again.eval()(picture), found.logits)


@pytest.mark.parametrize("name", MODELS.names())
def test_every_network_can_hold_what_was_cut(name: str) -> None:
    assert MODELS.get(name).config_class().pruned == ()


def test_the_norms_of_filters() -> None:
    layer = nn.Conv2d(1, 3, (1, 2), bias=False)
    layer.weight = nn.Parameter(torch.tensor([[1.0, -1], [2, 2], [0, 3]]).view(3, 1, 1, 2))
    assert l1(layer, GENERATOR).tolist() == pytest.approx([2 / 3, 4 / 3, 1])  # 2, 4, 3: their mean is 3
    norms = [2**0.5, 8**0.5, 3]
    assert l2(layer, GENERATOR).tolist() == pytest.approx([norm / (sum(norms) / 3) for norm in norms])
    turned = nn.ConvTranspose2d(1, 3, (1, 2), bias=False)  # its outputs are the second axis
    turned.weight = nn.Parameter(layer.weight.detach().transpose(0, 1))
    assert l1(turned, GENERATOR).tolist() == pytest.approx([2 / 3, 4 / 3, 1])
    norm = nn.BatchNorm2d(3)
    norm.weight = nn.Parameter(torch.tensor([-2.0, 0.5, 1]))
    assert bn(norm, GENERATOR).tolist() == [2, 0.5, 1]
    assert bn(layer, GENERATOR) is None
    assert l1(norm, GENERATOR) is None


def filled(layer: nn.Module, sizes: list[float]) -> None:
    """Gives filter i weights that are all sizes[i]."""
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(sizes).view(-1, 1, 1, 1).expand_as(layer.weight))


def test_the_smallest_filters_go_and_partners_of_a_sum_decide_together() -> None:
    """`second` and `third` are added, so their channels go together, each layer's filters over its own mean."""
    model = TinyNet(TinyConfig())
    rising = [float(size) for size in range(1, 17)]
    filled(model.first[0], rising[::-1])  # the last eight go
    filled(model.second[0], rising)  # the first eight would go, but
    filled(model.third[0], [3000.0, *[1000.0] * 15])  # 3 / 1.125, over the mean, saves the first
    small = halved(model)
    assert small.first[0].weight[:, 0, 0, 0].tolist() == rising[::-1][:8]
    # over their means: second's are size / 8.5; third's are 3 / 1.125 for the first, 1 / 1.125 for the others
    assert small.second[0].weight[:, 0, 0, 0].tolist() == [1, *rising[9:]]
    assert small.third[0].weight.shape == (8, 8, 3, 3)
    assert small.classifier.weight.shape == (11, 8, 1, 1)
    assert ("classifier", 8, None) in small.config.pruned


def test_the_units_of_a_network() -> None:
    channels = trace(TinyNet(TinyConfig()))
    assert [len(group) for group in channels.groups()] == [16, 16]
    seen = channels.layers
    assert seen["second.0"].outputs == seen["third.0"].outputs == seen["classifier"].inputs
    assert set(seen["classifier"].outputs) | set(seen["first.0"].inputs) <= channels.fixed


@dataclass(frozen=True)
class OddConfig:
    classes: int = 11
    odd: str = "mean"
    pruned: tuple = ()


class Odd(SegmentationModel):
    """A convolution whose channels are used in an unusual way."""

    config_class = OddConfig
    size_multiple, logits_stride = 8, 1

    def __init__(self, config: OddConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 40, 1)
        self.classifier = nn.Conv2d(40, config.classes, 1)

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.first(x)
        if self.config.odd == "mean":
            x = x - x.mean(1, keepdim=True)
        elif self.config.odd == "turned":
            x = x.transpose(2, 3).contiguous().transpose(2, 3) + x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)
        elif self.config.odd == "weighed":
            x = x * torch.arange(16.0, device=x.device).view(16, 1, 1)
        last = self.second(x)
        if self.config.odd == "padded":  # by a number that is independent of the layers
            last = last + torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 24))
        return {LAST: last}


@pytest.mark.parametrize("odd", ["mean", "turned", "weighed"])
def test_channels_that_something_else_counts_stay(odd: str) -> None:
    small = halved(Odd(OddConfig(odd=odd)))
    assert small.first.out_channels == 16
    assert small.second.out_channels == 24  # 20, rounded to a multiple of 8
    small(torch.zeros(1, 3, 8, 8))


def test_a_network_that_computes_with_fixed_counts_is_refused() -> None:
    with pytest.raises(UsageError, match="numbers of channels that do not follow from its layers"):
        halved(Odd(OddConfig(odd="padded")))


@pytest.mark.parametrize(
    ("count", "kept"), [(0.2, 1), (3.4, 3), (7.9, 8), (8, 8), (11.9, 8), (12, 16), (64, 64), (67, 64)]
)
def test_eights_are_kept_where_there_are_eight(count: float, kept: int) -> None:
    assert rounded(count) == kept


def test_shares() -> None:
    model = lively("tiny")
    chosen = rank(model, "l1")
    everything = {unit for units, _ in chosen.groups for unit in units}
    assert kept_units(chosen, 1.0) == kept_units(chosen, 1.0, "global") == everything
    assert halved(model, 1.0).config.pruned == ()
    with torch.no_grad():
        model.first[1].weight.fill_(0.001)  # the first layer is the worst of all, but keeps a tenth: two
    small = cut(model, worst := rank(model, "bn"), kept_units(worst, 0.5, "global"))
    assert (small.first[0].out_channels, small.second[0].out_channels) == (2, 16)


def test_enet_has_eights_where_it_joins() -> None:
    """13 filters beside the 3 channels of the picture, then 64 and 128 of which some come from padding."""
    small = halved(lively("enet"))
    assert small.initial.convolution.out_channels + 3 == 8
    assert [small.section1[0].act.num_parameters, small.section2[0].act.num_parameters] == [32, 64]


def test_a_share_of_the_arithmetic() -> None:
    model = lively("tiny")
    chosen, whole = rank(model, "l1"), count_macs(model, PAPER_SIZE)
    keep = share_for_macs(lambda share: cut(model, chosen, kept_units(chosen, share)), whole, 0.6)
    assert keep == pytest.approx(0.75, abs=0.01)  # below it both groups have 8 of their 16 channels, at it all
    assert count_macs(cut(model, chosen, kept_units(chosen, keep)), PAPER_SIZE) / whole < 0.6
    assert share_for_macs(lambda _: model, whole, 1.0) == 1
    with pytest.raises(UsageError, match="cannot be reached"):
        share_for_macs(lambda _: model, whole, 0.5)


def test_the_lot_depends_on_the_seed_alone() -> None:
    model = lively("tiny")
    lots = [kept_units(rank(model, "random", seed), 0.5) for seed in (0, 0, 1)]
    assert lots[0] == lots[1] != lots[2]


def test_a_pruned_network_is_pruned_again() -> None:
    small = halved(halved(lively("tiny")))
    again = build_model("tiny", json.loads(json.dumps(small.config_json())))
    assert small.first[0].out_channels == 4
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in small.state_dict().items()
    }


def test_a_smaller_network_for_other_classes_has_fitting_fresh_weights() -> None:
    torch.manual_seed(0)
    model = halved(lively("tiny"))
    other = build_model("tiny", {**model.config_json(), "classes": 5})
    assert other.classifier.weight.shape == (5, 8, 1, 1)
    std = float(other.second[0].weight.detach().std())
    assert std == pytest.approx((2 / (8 * 9)) ** 0.5, rel=0.15)  # He 2015 of the eight outputs it has


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (("fourth.0", 8, 8), "fourth.0, which is not in a TinyNet"),
        (("first", None, 8), "only a convolution, batch norm or PReLU"),
        (("first.0", None, 32), "32 outputs, but as the rest of the config says it has 16"),
        (("first.0", None, 0), "0 outputs"),
        (("first.0", None), "each entry is a layer's name, its inputs and its outputs"),
        (("first.0", "8", None), "each entry is"),
    ],
)
def test_what_a_card_cannot_say(entry: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        narrow(TinyNet(TinyConfig()), (entry,))


@pytest.mark.parametrize("field", [{"exits": 1}, {"channels": 32}])
def test_another_network_than_the_one_that_was_pruned_is_told(field: dict[str, int]) -> None:
    """Layers that are not named keep the channels that the rest implies, which meet fewer than these."""
    small = halved(lively("swiftnet", {"encoder": "resnet18", "width": 0.125, "channels": 16}))
    with pytest.raises(UsageError, match=r"do not fit together.*leave out what differs"):
        build_model("swiftnet", {**small.config_json(), **field})


def test_pretrained_weights_do_not_fit() -> None:
    register_tiny()
    small = halved(lively("swiftnet", SMALL["swiftnet"]))
    with pytest.raises(UsageError, match="leave pretrained out"):
        build_model("swiftnet", {**small.config_json(), "pretrained": "imagenet"})
