"""Teaching: trained networks guide another one beside the labels. One class a method."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.core.registry import Registry
from rtseg.models import SegmentationModel
from rtseg.models.deploy import normalise
from rtseg.training.losses import shrink_labels
from rtseg.training.origin import Origin, find_origin

TEACHING: Registry[type["Teaching"]] = Registry(
    "way of teaching",
    {"logits": "rtseg.training.teach:LogitTeaching", "features": "rtseg.training.teach:FeatureTeaching"},
)


def find_teachers(names: Sequence[str], labels: Sequence[str]) -> list[Origin]:
    """Finds trained networks that can teach.

    Args:
        names: as `find_origin` takes them.
        labels: the classes to teach.

    Raises:
        UsageError: no such network, or it knows other classes.
        WeightsError: a file is missing or damaged.
    """
    origins = [find_origin(name) for name in names]
    for origin in origins:
        if origin.labels.names != tuple(labels):
            raise UsageError(f"teacher {origin.name} knows the classes of {origin.labels.name}, "
                             f"not the {len(labels)} of the data set: {', '.join(labels)}")  # fmt: skip
    return origins


class Teaching(nn.Module):
    """The teaching term of the loss. Teachers are no submodules: they are neither trained, nor averaged, nor saved.

    Args:
        student: the network that learns; what a method needs of it is found out here.
        teachers: in evaluation mode; several are an ensemble.
        temperature: softens the classes' probabilities.

    Attributes:
        compiled: whether the teachers are fused with torch.compile, on the first batch.
    """

    def __init__(self, student: SegmentationModel, teachers: Sequence[SegmentationModel], temperature: float) -> None:
        super().__init__()
        self.temperature, self.compiled = temperature, False
        self._teachers = tuple(teacher.eval().requires_grad_(False) for teacher in teachers)
        self._called: list[Any] = []  # made of them on first use, after the trainer made its copies of this

    def forward(self, images: Tensor, logits: Tensor, labelled: Tensor) -> Tensor:
        """The term for one batch.

        Args:
            images: the pictures, uint8 BGR (N, H, W, 3).
            logits: the student's, (N, C, h, w).
            labelled: bool (N, h, w), where the truth is known: much of the rest is padding.
        """
        raise NotImplementedError

    def _probabilities(self, images: Tensor, size: torch.Size) -> Tensor:
        """The ensemble's mean of softened probabilities, (N, C, h, w) of `size`."""
        if not self._called:
            there = [teacher.to(images.device, memory_format=torch.channels_last) for teacher in self._teachers]
            self._called = [torch.compile(teacher) for teacher in there] if self.compiled else there
        total = torch.zeros((), device=images.device)
        with torch.no_grad():
            for teacher, called in zip(self._teachers, self._called, strict=True):
                x = normalise(images, teacher.normalisation).contiguous(memory_format=torch.channels_last)
                logits = called(x).float()
                if logits.shape[-2:] != size:
                    logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
                total = total + (logits / self.temperature).softmax(1)
        return total / len(self._teachers)


class LogitTeaching(Teaching):
    """Softened probabilities of every pixel (Hinton 2015; on segmentation, pixel-wise: Liu 2019).

    Kullback-Leibler divergence of the student from the teachers, times the temperature squared so that its gradients
    keep their size.
    """

    def forward(self, images: Tensor, logits: Tensor, labelled: Tensor) -> Tensor:
        taught = self._probabilities(images, logits.shape[-2:])
        said = (logits.float() / self.temperature).log_softmax(1)
        return self.temperature**2 * mean_of(F.kl_div(said, taught, reduction="none").sum(1), labelled)


class FeatureTeaching(LogitTeaching):
    """Logits, and what the classifiers see: the student's features, through a 1x1 convolution, approach the teachers'
    (FitNets, Romero 2015; here both are compared as unit vectors, so that no network's scale counts).
    """

    def __init__(self, student: SegmentationModel, teachers: Sequence[SegmentationModel], temperature: float) -> None:
        super().__init__(student, teachers, temperature)
        self._seen: dict[int, Tensor] = {}
        for number, network in enumerate((student, *self._teachers)):
            _classifier(network).register_forward_pre_hook(self._keeper(number))
        inputs = _classifier(student).in_channels
        outputs = [_classifier(teacher).in_channels for teacher in self._teachers]
        self.adapters = nn.ModuleList(nn.Conv2d(inputs, channels, 1) for channels in outputs)

    def _keeper(self, number: int) -> Any:
        def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
            self._seen[number] = inputs[0]

        return keep

    def forward(self, images: Tensor, logits: Tensor, labelled: Tensor) -> Tensor:
        features = self._seen[0].float()  # of the student's forward pass for this batch
        total = super().forward(images, logits, labelled)
        counted = shrink_labels(labelled.byte(), (features.shape[-2], features.shape[-1])).bool()
        for number, adapter in enumerate(self.adapters, start=1):
            taught = F.interpolate(self._seen[number].float(), features.shape[-2:], mode="bilinear")
            apart = 1 - F.cosine_similarity(adapter(features), taught, dim=1)
            total = total + mean_of(apart, counted) / len(self.adapters)
        self._seen.clear()
        return total


def mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the counted values, 0 where none is; picking them out would make the device wait."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


def _classifier(network: SegmentationModel) -> Any:
    """The convolution that ends a network; raises UsageError where it has none of that name."""
    found = getattr(network, "classifier", None)
    if not isinstance(found, nn.Conv2d | nn.ConvTranspose2d):
        raise UsageError(f"{type(network).__name__} has no convolution `classifier`: use --teaching logits")
    return found
