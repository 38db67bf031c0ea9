"""Terms of teaching methods without a teacher or with their own networks, against values worked out by hand."""

from math import atan, exp, log, pi

import numpy as np
import pytest
import torch
from teaching_batches import UNKNOWN, given_batch, known, network_batch
from tiny import lively
from torch import Tensor, nn

from rtseg.models import build_model
from rtseg.models.base import Outputs, feature_channels
from rtseg.training.distill import bss, dafl, grafting
from rtseg.training.distill.base import Batch
from rtseg.training.distill.byot import ByotConfig, ByotTeaching
from rtseg.training.distill.cs_kd import CsKdTeaching
from rtseg.training.distill.ddsd import DdsdConfig, DdsdTeaching, distorted
from rtseg.training.distill.dml import mutual
from rtseg.training.distill.gan import Discriminator, GanTeaching
from rtseg.training.distill.peers import fresh_peers
from rtseg.training.distill.teachers import Teachers
from rtseg.training.pruning.prune import cut, kept_units, rank

pytestmark = pytest.mark.slow


def test_class_wise_by_hand() -> None:
    """Each picture learns from the mean logits of the class in the other one; classes missing there do not count."""
    logits = torch.tensor([[0.0, 0.0, 9.0], [log(3.0), log(3.0), 0.0]])  # (picture, pixel): the second class's is 0
    x = torch.stack([logits, torch.zeros_like(logits)], 1)[:, :, None]  # (2, 2, 1, 3)
    labels = torch.tensor([[[0, 0, 1]], [[0, 0, UNKNOWN]]])
    first = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)  # 3/4 taught, 1/2 said
    second = 0.5 * log(0.5 / 0.75) + 0.5 * log(0.5 / 0.25)
    found = CsKdTeaching(1.0)(given_batch(x, labels))
    assert float(found) == pytest.approx((2 * first + 2 * second) / 4, rel=1e-5)


def test_mutual_by_hand() -> None:
    """Of three networks, two alike: each learns from the mean of two divergences."""
    half, most = torch.zeros(1, 2, 1, 1), torch.tensor([log(3.0), 0.0]).reshape(1, 2, 1, 1)
    counted = torch.ones(1, 1, 1, dtype=torch.bool)
    down = 0.5 * log(0.5 / 0.75) + 0.5 * log(0.5 / 0.25)
    up = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    found = mutual([half, half, most], counted, 1.0)
    assert [float(value) for value in found] == pytest.approx([up / 2, up / 2, down], rel=1e-5)


def test_grafting_by_hand() -> None:
    """Nine of ten weights in one bin against one in each: the poorer layer keeps less; what follows it goes along."""
    rich, poor = torch.arange(10.0).reshape(2, 5), torch.tensor([0.0] * 9 + [1.0]).reshape(2, 5)
    high, low = log(10), -(0.9 * log(0.9) + 0.1 * log(0.1))
    assert grafting.entropy(rich) == pytest.approx(high, rel=1e-5)
    assert grafting.entropy(poor) == pytest.approx(low, rel=1e-5)
    assert grafting.entropy(torch.ones(2, 2)) == 0
    own = {"layer": poor, "norm": torch.tensor([1.0]), "count": torch.tensor(3)}
    other = {"layer": rich, "norm": torch.tensor([5.0]), "count": torch.tensor(4)}
    share = 0.4 / pi * atan(2 * (low - high)) + 0.5
    mixed = grafting.graft(own, other, grafting.GraftingConfig(slope=2.0))
    assert set(mixed) == {"layer", "norm"}
    assert float(mixed["norm"]) == pytest.approx(share + 5 * (1 - share))
    np.testing.assert_allclose(mixed["layer"].numpy(), (share * poor + (1 - share) * rich).numpy(), rtol=1e-6)


def test_a_discriminator_that_knows_nothing_costs_log_2() -> None:
    """And twice that itself; it learns from fixed probabilities, the student from a fixed discriminator."""
    teaching = GanTeaching(Discriminator(2, 4))
    last = teaching.discriminator[-1]
    nn.init.zeros_(last.weight)  # type: ignore[arg-type]
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    terms = teaching(given_batch(logits, known(1, 32, 32), [(torch.randn(1, 2, 8, 8), {})]))
    assert terms.term.item() == pytest.approx(log(2), rel=1e-5)
    assert terms.own.item() == pytest.approx(2 * log(2), rel=1e-5)
    terms.own.backward()
    assert logits.grad is None
    assert last.weight.grad is not None
    nn.init.normal_(last.weight)  # type: ignore[arg-type]
    teaching.zero_grad()
    teaching(given_batch(logits, known(1, 32, 32), [(torch.randn(1, 2, 8, 8), {})])).term.backward()
    assert logits.grad is not None
    assert logits.grad.any()
    assert all(parameter.grad is None for parameter in teaching.parameters())


def test_a_discriminator_by_hand() -> None:
    """Its score is four times the first class's probability: 3 for the teacher's 3/4, 1 for the student's 1/4."""
    judge = nn.Conv2d(5, 1, 1, bias=False)
    judge.weight.data = torch.tensor([0.0, 0, 0, 4, 0]).reshape(1, 5, 1, 1)
    taught = torch.tensor([log(3.0), 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    terms = GanTeaching(judge)(given_batch(-taught, known(1, 16, 16), [(taught, {})]))  # type: ignore[arg-type]
    assert terms.term.item() == pytest.approx(log(1 + exp(-1)), rel=1e-5)
    assert terms.own.item() == pytest.approx(log(1 + exp(-3)) + log(1 + exp(1)), rel=1e-5)


class Linear(nn.Module):
    """A teacher of one pixel and two classes: the first one's logit is 0.02 times the blue value."""

    def feel(self, images: Tensor) -> list[tuple[Tensor, dict[str, Tensor]]]:
        blue = 0.02 * images[..., 0]
        return [(torch.stack([blue, torch.zeros_like(blue)], 1), {})]


def test_pictures_move_to_the_border() -> None:
    """A margin of 2 at blue = 100, slope 0.02: a full step moves by (2 + 0.01)/0.02 = 100.5, just beyond it."""
    images = torch.full((1, 1, 1, 3), 100.0)
    truth, towards = torch.zeros(1, 1, 1, dtype=torch.long), torch.ones(1, 1, 1, dtype=torch.long)
    counted = torch.ones(1, 1, 1, dtype=torch.bool)
    margin, slope = bss.margins(Linear(), images, truth, towards, counted)  # type: ignore[arg-type]
    assert float(margin) == pytest.approx(2, rel=1e-5)
    assert slope.flatten().tolist() == pytest.approx([0.02, 0, 0])
    batch = Batch(images, truth, UNKNOWN, None, None, None, Linear(), 0.0)  # type: ignore[arg-type]
    for config, blue in ((bss.BssConfig(steps=1, rate=0.5), 49.75), (bss.BssConfig(steps=4, rate=1.0), 0.0)):
        moved = bss.BssTeaching(config)._move(batch, truth, towards, counted)
        assert moved.flatten().tolist() == pytest.approx([blue, 100, 100], abs=1e-3)


def test_what_a_generator_is_judged_by() -> None:
    """Sure of one class everywhere: only the spread is bad, and it is best if both classes are equally frequent."""
    sure = torch.tensor([[50.0, 50.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    both = torch.tensor([[50.0, 0.0], [0.0, 50.0]]).reshape(1, 2, 1, 2)
    unsure = torch.zeros(1, 2, 1, 2)
    last = {"last": torch.full((1, 3, 1, 2), 2.0)}
    found = [float(dafl.generator_loss((logits, last), 0.1, 5.0)) for logits in (sure, both, unsure)]
    assert found == pytest.approx([-0.2, -0.2 - 5 * log(2), log(2) - 0.2 - 5 * log(2)], abs=1e-5)


def test_distortions_by_hand() -> None:
    """3/4 and 1/4 of the picture, 1/2 each of its distortion; features that are 2 and 1 apart in their mean."""

    class Distorted(Batch):
        def look(self, images: Tensor) -> Outputs:
            return other

    labels = torch.tensor([[[0, 0, UNKNOWN]]])
    logits = torch.tensor([[log(3.0)] * 3, [0.0] * 3]).reshape(1, 2, 1, 3)
    features = torch.tensor([[1.0, 5.0, 90.0], [2.0, 2.0, 90.0]]).reshape(1, 2, 1, 3)
    one = Outputs(logits.requires_grad_(), (), {"last": features})
    moved = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]).reshape(1, 2, 1, 3)
    other = Outputs(torch.zeros(1, 2, 1, 3, requires_grad=True), (), {"last": moved})
    images = torch.zeros(1, 1, 3, 3)
    batch = Distorted(images, labels, UNKNOWN, None, None, lambda said: torch.tensor(7.0), Teachers([]), 0.0)  # type: ignore[arg-type]
    vars(batch)["student"] = one
    both = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5) + 0.5 * log(0.5 / 0.75) + 0.5 * log(0.5 / 0.25)
    found = DdsdTeaching(DdsdConfig(discrepancy=0.1))(batch)
    assert found.item() == pytest.approx(7 + both + 0.1 * (2**2 + 1**2) / 2, rel=1e-5)
    found.backward()
    assert one.logits.grad is not None
    assert other.logits.grad is not None
    assert one.logits.grad[0, 0, 0].tolist() == pytest.approx([(0.75 - 0.5) / 2] * 2 + [0], abs=1e-6)  # of KL(p2, p1)
    assert other.logits.grad[0, 0, 0].tolist() == pytest.approx([(0.5 - 0.75) / 2] * 2 + [0], abs=1e-6)


def test_distortions_keep_their_place_and_follow_the_seed() -> None:
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(distorted(images, 0.0), images.float())
    torch.manual_seed(3)
    one = distorted(images, 1.0)
    torch.manual_seed(3)
    assert torch.equal(distorted(images, 1.0), one)
    assert float(one.min()) >= 0
    assert float(one.max()) <= 255
    for before, after in zip(images.float(), one, strict=True):
        assert np.corrcoef(before.flatten(), after.flatten())[0, 1] > 0.9


SMALL = {"encoder": "resnet18", "width": 0.125, "channels": 16, "conv": "active"}


@pytest.mark.parametrize("is_pruned", [False, True])
def test_peers_have_the_layers_of_the_network_with_other_weights(is_pruned: bool) -> None:
    """Also if its encoder has its own fields, and if channels were cut from it."""
    network = lively("pspnet", {**SMALL, "exits": 1})
    if is_pruned:
        chosen = rank(network, "l1")
        network = cut(network, chosen, kept_units(chosen, 0.5))
    (peer,) = fresh_peers(network, 1)
    own, theirs = network.state_dict(), peer.state_dict()
    assert {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in theirs.items()}
    assert not torch.equal(own["fuse.0.weight"], theirs["fuse.0.weight"])


@pytest.mark.parametrize("own", [False, True])
def test_early_exits_by_hand(own: bool) -> None:
    """The last says 3/4 and 1/4. One exit says 1/2 each, from a feature that is 2 off; a second says the same as it.
    An exit of the method's own has the labels' cross-entropy beside it, log 2."""
    logits = torch.tensor([[log(3.0)] * 2, [0.0] * 2]).reshape(1, 2, 1, 2).requires_grad_()
    last, deep = torch.ones(1, 1, 1, 2, requires_grad=True), torch.full((1, 1, 1, 2), 3.0, requires_grad=True)
    features = {"deep": deep, "last": last}
    exits = [("deep", 1)] if own else [("deep", 1), ("last", 1)]
    teaching = ByotTeaching(ByotConfig(temperature=1.0, hints=0.5), exits, 1, 2 if own else 0)
    for layer in teaching.hints:
        nn.init.ones_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    for layer in teaching.exits or ():
        nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    batch = given_batch(logits, torch.tensor([[[0, UNKNOWN]]]))
    early = () if own else (torch.zeros(1, 2, 1, 2, requires_grad=True), logits.detach())
    vars(batch)["student"] = Outputs(logits, early, features)
    apart = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5) + 0.5 * 0.5 * (3 - 1) ** 2
    found = teaching(batch)
    assert found.item() == pytest.approx(log(2) + apart if own else apart / 2, rel=1e-5)
    found.backward()
    assert logits.grad is None  # the end teaches and does not learn
    assert deep.grad is not None
    assert deep.grad.flatten().tolist() == pytest.approx([1.0 if own else 0.5, 0])


@pytest.mark.parametrize(("exits", "ours"), [(0, 1), (1, 2), (2, 3)])
def test_two_exits_may_see_the_same_features(exits: int, ours: int) -> None:
    """PSPNet's auxiliary classifier and its exit use the same stage: each learns, with its own hint."""
    network = build_model("pspnet", {**SMALL, "exits": exits})
    teaching = ByotConfig().build(network, [])
    assert [hint.in_channels for hint in teaching.hints] == [
        feature_channels(network)[name] for name in network.auxiliary_features
    ]
    assert len(teaching.hints) == ours
    teaching(network_batch(network, Teachers([]), size=64)).backward()
    assert all(hint.weight.grad.abs().sum() > 0 for hint in teaching.hints)
