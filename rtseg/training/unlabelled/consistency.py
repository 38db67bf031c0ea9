"""The loss term: for strong views, the network must predict what it is confident of in the weak one."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.models.base import Outputs
from rtseg.models.deploy import network_input
from rtseg.training.losses import shrink_labels


def consistency_loss(
    model: SegmentationModel,
    forward: Callable[[Tensor], Outputs],
    views: Tensor,
    known: Tensor,
    pasted: Tensor,
    weights: Tensor,
    confidence: float,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the strong views with the network's confident predictions for the weak one.

    Args:
        model: the student; labels the weak view in evaluation mode, without gradients.
        forward: its `forward_train`, possibly compiled.
        views: weak, strong and strong, uint8 BGR (N, 3, h, w, 3).
        known: bool (N, h, w), False in padding.
        pasted: bool (N, 2, h, w), where each strong view gets a piece of a neighbour in the batch.
        weights: of the classes, float32 (C,).
        confidence: minimum probability for a label to count.

    Returns:
        The loss, a scalar: the mean over all pixels but padding, counting pixels below the confidence as 0. And the
        share of the pixels that counted.
    """
    labels, sure = pseudo_labels(model, views[:, 0], confidence)
    size_hw = (labels.shape[-2], labels.shape[-1])
    known = shrink_labels(known.byte(), size_hw).bool()
    mixed: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for number, neighbour in ((0, 1), (1, -1)):
        view, piece = views[:, 1 + number], pasted[:, number]
        small = shrink_labels(piece.byte(), size_hw).bool()
        picture = torch.where(piece[..., None], view.roll(neighbour, 0), view)
        target, counts, valid = (
            torch.where(small, values.roll(neighbour, 0), values) for values in (labels, sure & known, known)
        )
        mixed.append((picture, target, counts, valid))
    pictures, truth, counted, there = (torch.cat(parts) for parts in zip(*mixed, strict=True))
    logits = forward(network_input(model, pictures))[0].float()
    losses = F.cross_entropy(logits, truth, weights, reduction="none") * counted
    shares = weights[truth] * there
    share = counted.sum() / there.sum().clamp(min=1)
    return losses.sum() / shares.sum().clamp(min=1e-6), share


@torch.no_grad()
def pseudo_labels(model: SegmentationModel, images: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """uint8 BGR (N, h, w, 3) -> labels int64 and whether they are confident, bool; both (N, h', w'), the logits' size.

    The network is in evaluation mode meanwhile: no dropout, no batch statistics.
    """
    training = model.training
    model.eval()
    probability, labels = model(network_input(model, images)).float().softmax(1).max(1)
    model.train(training)
    return labels, probability >= confidence
