"""Batches for teaching methods: with given outputs, or with small networks."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from rtseg.models import SegmentationModel
from rtseg.models.base import Outputs
from rtseg.training.distill.base import Batch
from rtseg.training.distill.teachers import Seen, Teachers

UNKNOWN = 255


def cross_entropy(labels: Tensor, outputs: Outputs) -> Tensor:
    logits = functional.interpolate(outputs.logits, labels.shape[-2:], mode="bilinear")
    return functional.cross_entropy(logits, labels, ignore_index=UNKNOWN)


def known(count: int, height: int, width: int) -> Tensor:
    """Labels that are all class 0."""
    return torch.zeros(count, height, width, dtype=torch.long)


def given_batch(logits: Tensor, labels: Tensor, seen: Sequence[Seen] = (), **features: Tensor) -> Batch:
    """A batch for which the student has returned `logits`, and the teachers what they have `seen`."""
    images = torch.zeros(*labels.shape, 3, dtype=torch.uint8)
    batch = Batch(images, labels, UNKNOWN, None, None, None, Teachers([]), 0.0)  # type: ignore[arg-type]
    vars(batch).update(student=Outputs(logits, (), features), seen=list(seen))
    return batch


def network_batch(student: SegmentationModel, teachers: Teachers, size: int = 32, count: int = 2) -> Batch:
    """Random pictures and labels for real networks; a tenth of the pixels is unlabelled."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, student.config.classes, (count, size // 8, size // 8), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, : size // 8] = UNKNOWN
    batch = Batch(images, labels, UNKNOWN, student, student.forward_train, None, teachers, 0.0)  # type: ignore[arg-type]
    return replace(batch, label_loss=lambda outputs: cross_entropy(labels, outputs))
