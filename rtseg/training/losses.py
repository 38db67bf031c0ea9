"""The loss of a network and its auxiliary outputs."""

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rtseg.datasets import DataSet


def class_weights(data: DataSet, balance: float) -> Tensor:
    """float32 (C,): 1 / ln(balance + share of the class), scaled to a mean of 1 (ENet, Paszke 2016, section 5.2)."""
    classes = len(data.labels)
    if balance == 0:
        return torch.ones(classes)
    counts = np.zeros(256, np.int64)
    console = Console(stderr=True)  # a bar, because counting rendered scenes takes minutes
    for sample in track(data, "class weights", console=console, transient=True, disable=not console.is_terminal):
        counts += np.bincount(sample.labels.ravel(), minlength=256)
    shares = counts[:classes] / max(1, counts[:classes].sum())
    weights = 1 / np.log(balance + shares)
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def segmentation_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, ignore_index: int, ohem: float = 1.0, boundary: float = 0.0
) -> Tensor:
    """Weighted cross-entropy at the labels' size. Like the other terms, it never makes the CPU wait for the device.

    Args:
        logits: float (N, C, h, w); interpolated to the labels' size if needed.
        labels: int64 (N, H, W).
        weights: float32 (C,).
        ignore_index: label that does not count.
        ohem: share of the pixels that count, those with the largest loss (online hard example mining, Shrivastava
            2016).
        boundary: extra weight, in addition to 1, of pixels near a border between classes.
    """
    logits = logits.float()
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    losses = F.cross_entropy(logits, labels, weights, ignore_index=ignore_index, reduction="none")
    labelled = labels != ignore_index
    if boundary > 0:
        near = 1 + boundary * near_border(labels, ignore_index).float()
        mean = (near * labelled).sum() / labelled.sum().clamp(min=1)
        losses = losses * near / mean.clamp(min=1)  # keeps the scale of the loss
    if ohem < 1:
        count = (ohem * labelled.sum()).floor().clamp(min=1)
        hardest = losses.flatten().sort(descending=True).values
        return (hardest * (torch.arange(len(hardest), device=hardest.device) < count)).sum() / count
    shares = weights[labels.masked_fill(~labelled, 0)] * labelled
    return losses.sum() / shares.sum().clamp(min=1e-6)


def near_border(labels: Tensor, ignore_index: int, reach: int = 2) -> Tensor:
    """int64 (N, H, W) -> bool (N, H, W): whether two classes meet within `reach` pixels (in a square).

    Unlabelled pixels are not a class: neither they nor the padding of augmentation form a border.
    """
    values, unlabelled = labels[:, None].float(), (labels == ignore_index)[:, None]
    window = 2 * reach + 1
    highest = F.max_pool2d(values.masked_fill(unlabelled, -1), window, 1, reach)
    lowest = -F.max_pool2d(-values.masked_fill(unlabelled, 256), window, 1, reach)
    return (highest > lowest)[:, 0]


def lovasz_loss(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Lovász-Softmax (Berman 2018): a smooth surrogate of the mean IoU, so that rare classes count as much as others.

    Computed over the whole batch, at the logits' size but at most half the labels', because it sorts every pixel.

    Args:
        logits: float (N, C, h, w).
        labels: int64 (N, H, W).
        ignore_index: label that does not count.
    """
    if logits.shape[-1] > labels.shape[-1] // 2:
        logits, labels = logits[..., ::2, ::2], labels[..., ::2, ::2]
    coarse = shrink_labels(labels, (logits.shape[-2], logits.shape[-1]))
    truth = one_hot(coarse, logits.shape[1], ignore_index).transpose(0, 1).flatten(1)  # (C, pixels)
    errors = (truth - logits.float().softmax(1).transpose(0, 1).flatten(1)).abs()
    errors = errors.masked_fill((coarse == ignore_index).flatten(), -1.0)  # sorted last
    errors, order = errors.sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    total = truth.sum(1, keepdim=True)
    lost = 1 - (total - truth.cumsum(1)) / (total + (1 - truth).cumsum(1))  # of the IoU, at this many wrong pixels
    steps = torch.diff(lost, dim=1, prepend=torch.zeros_like(total))
    present = total[:, 0] > 0
    terms = (errors.clamp(min=0) * steps).sum(1) * present
    return terms.sum() / present.sum().clamp(min=1)


def dice_loss(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """1 - the mean over the classes of 2 Σpt / (Σp² + Σt²) (V-Net, Milletari 2016; there for two classes).

    Sums over all pixels of the batch; leaves out classes that do not occur in it. 0 without a labelled pixel.

    Args:
        logits: float (N, C, h, w).
        labels: int64 (N, h, w).
        ignore_index: label that does not count.
    """
    labelled = (labels != ignore_index)[:, None]
    truth = one_hot(labels, logits.shape[1], ignore_index)
    share = logits.float().softmax(1) * labelled
    overlap, size = (share * truth).sum((0, 2, 3)), (share.square() + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    missed = (1 - 2 * overlap / size.clamp(min=1e-6)) * present
    return missed.sum() / present.sum().clamp(min=1)


def one_hot(labels: Tensor, classes: int, ignore_index: int) -> Tensor:
    """int64 (N, h, w) -> float32 (N, C, h, w): 1 at a pixel's class; all 0 if it is unlabelled."""
    index = labels.masked_fill(labels == ignore_index, classes)[:, None]
    n, _, h, w = index.shape
    return torch.zeros(n, classes + 1, h, w, device=labels.device).scatter_(1, index, 1.0)[:, :classes]


def shrink_labels(labels: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """int64 (N, H, W) -> (N, h, w), nearest pixel centre, for comparison with an auxiliary output."""
    if tuple(labels.shape[-2:]) == size_hw:
        return labels
    return F.interpolate(labels[:, None].float(), size_hw, mode="nearest-exact")[:, 0].long()
