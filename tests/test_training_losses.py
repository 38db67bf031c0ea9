"""Loss terms that measure overlap."""

from collections.abc import Callable

import pytest
import torch
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor
from torch.nn import functional

from rtseg.training.losses import dice_loss, lovasz_loss, segmentation_loss

pytestmark = pytest.mark.slow


def sure(labels: Tensor, classes: int) -> Tensor:
    """Logits that predict `labels` with confidence."""
    return 20.0 * functional.one_hot(labels, classes).permute(0, 3, 1, 2).float()


def test_lovasz_loss_falls_with_the_miou_and_knows_no_frequency() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[:, 0:2, 0:4] = 1  # 8 pixels of 256
    right = sure(labels, 3)
    without = right.clone()
    without[:, :, 0:2, 0:4] = right[:, :, 8:9, 8:9]
    assert lovasz_loss(right[..., ::2, ::2], labels, 11) < 0.01
    assert lovasz_loss(without[..., ::2, ::2], labels, 11) == pytest.approx(0.5, abs=0.05)  # one of two classes is lost
    ignored = labels.clone()
    ignored[:, 0:2] = 11
    assert lovasz_loss(without[..., ::2, ::2], ignored, 11) < 0.01


def test_lovasz_loss_is_that_of_another_implementation() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (2, 16, 24))
    labels[labels == 3] = 255
    logits = torch.randn(2, 5, 16, 24, requires_grad=True)
    ours = lovasz_loss(logits, labels.repeat_interleave(2, 1).repeat_interleave(2, 2), 255)
    theirs = LovaszLoss("multiclass", ignore_index=255)(logits, labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-6


def test_dice_counts_every_class_alike_and_only_those_that_occur() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[:, 0:2, 0:4] = 1
    right, nothing_small = sure(labels, 3), sure(torch.zeros_like(labels), 3)
    assert dice_loss(right, labels, 11) < 0.01
    missed = float(dice_loss(nothing_small, labels, 11))
    assert missed == pytest.approx((1 + 1 - 2 * 248 / (256 + 248)) / 2, abs=0.01)
    labels[:, 0:2] = 11
    assert dice_loss(nothing_small, labels, 11) < 0.01
    extra = right.clone()
    extra[:, :, 8:] = sure(torch.full((1, 8, 16), 2), 3)  # class 2 does not occur: it costs class 0, nothing else
    assert dice_loss(extra, labels, 11) == pytest.approx(1 - 2 * 96 / (96 + 224), abs=0.01)


@pytest.mark.parametrize("term", [lovasz_loss, dice_loss])
def test_a_batch_without_labels_costs_nothing(term: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    loss = term(logits, torch.full((1, 8, 8), 11), 11)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_ohem_is_the_mean_of_the_hardest_share() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 10, 10), torch.randint(0, 3, (1, 10, 10))
    labels[:, 0] = 11
    each = functional.cross_entropy(logits, labels, ignore_index=11, reduction="none").flatten()
    expected = each.sort(descending=True).values[: int(0.3 * 90)].mean()
    assert segmentation_loss(logits, labels, torch.ones(3), 11, ohem=0.3) == pytest.approx(expected.item(), rel=1e-6)
