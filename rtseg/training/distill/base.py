"""What every way of teaching has in common: its config, and the term of the loss that is built from it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Self

from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.models.base import Outputs, feature_channels
from rtseg.training.config import TrainConfig
from rtseg.training.distill.teachers import Teachers


class Teaching(nn.Module):
    """The teaching term of the loss; what it has to learn itself, such as adapters, are its parameters.

    Args:
        teachers: see every batch. They are no submodules: they are neither trained, nor averaged, nor saved.
    """

    def __init__(self, teachers: Teachers) -> None:
        super().__init__()
        self.teachers = teachers

    def forward(self, images: Tensor, student: Outputs, labelled: Tensor) -> Tensor:
        """The term for one batch, a scalar.

        Args:
            images: the pictures, uint8 BGR (N, H, W, 3).
            student: what the network that learns gives for them.
            labelled: bool (N, h, w) of the logits' size, where the truth is known: much of the rest is padding.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class MethodConfig(ABC):
    """What a way of teaching is set up with. A field that is called like one of `TrainConfig`'s takes its value."""

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """The method's config in a training run."""
        given = vars(config)
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})

    @abstractmethod
    def build(self, student: SegmentationModel, teachers: Teachers) -> Teaching:
        """The term of the loss.

        Args:
            student: the network that learns: says what channels its features have.
            teachers: the networks that teach.

        Raises:
            UsageError: the method does not fit one of the networks.
        """


def channels_of(network: SegmentationModel, name: str) -> int:
    """The channels of a network's features of that name; raises UsageError where it has none."""
    found = feature_channels(network)
    if name not in found:
        raise UsageError(f"{type(network).__name__} has no features {name!r}, only {', '.join(found)}: "
                         "choose another --teaching")  # fmt: skip
    return found[name]


def mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the counted values, 0 where none is; picking them out would make the device wait."""
    return (values * counted).sum() / counted.sum().clamp(min=1)
