"""The base of all teaching methods: the batch they see, the config, and the loss term built from it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name
from rtseg.models import SegmentationModel
from rtseg.models.base import Outputs, feature_channels
from rtseg.models.deploy import network_input
from rtseg.training.config import TrainConfig
from rtseg.training.distill.teachers import Seen, Teachers
from rtseg.training.losses import shrink_labels

LOGITS = "logits"
"""Stands for a network's logits in a list of features."""


@dataclass(frozen=True)
class Batch:
    """A batch as teaching methods see it; each network's outputs are computed once, on first use.

    Attributes:
        images: the pictures, BGR in 0..255, (N, H, W, 3); uint8, or float32 if a method generates them.
        labels: int64 (N, H, W).
        ignore_index: the label of unlabelled pixels.
        network: the student.
        forward: its `forward_train`, possibly compiled.
        label_loss: the labels' loss for the outputs of a network of this architecture.
        teachers: the networks that teach; may be none.
        progress: completed share of the run's epochs, 0..1.
    """

    images: Tensor
    labels: Tensor
    ignore_index: int
    network: SegmentationModel
    forward: Callable[[Tensor], Outputs]
    label_loss: Callable[[Outputs], Tensor]
    teachers: Teachers
    progress: float

    def look(self, images: Tensor) -> Outputs:
        """The student's outputs for other pictures, in the format of `images`; with gradients."""
        return self.forward(network_input(self.network, images))

    @cached_property
    def student(self) -> Outputs:
        """The student's outputs for the pictures."""
        return self.look(self.images)

    @cached_property
    def seen(self) -> list[Seen]:
        """Each teacher's outputs for the pictures, without gradients."""
        return self.teachers.see(self.images)

    @cached_property
    def truth(self) -> Tensor:
        """The labels at the logits' size, int64 (N, h, w)."""
        return self.truth_at(self.student.logits)

    @cached_property
    def labelled(self) -> Tensor:
        """Which pixels are labelled, bool (N, h, w); many others are padding, which terms must ignore."""
        return self.truth != self.ignore_index

    def truth_at(self, like: Tensor) -> Tensor:
        """The labels at the size of `like`, (N, ·, h, w): int64 (N, h, w)."""
        return shrink_labels(self.labels, (like.shape[-2], like.shape[-1]))

    def labelled_at(self, like: Tensor) -> Tensor:
        """Which pixels are labelled, bool (N, h, w)."""
        return self.truth_at(like) != self.ignore_index


class Terms(NamedTuple):
    """The losses for a batch, from a method with its own networks.

    Attributes:
        term: added to the student's loss, a scalar.
        own: the loss of the method's own networks, a scalar; its weight is always 1.
    """

    term: Tensor
    own: Tensor


class Made(NamedTuple):
    """A batch that a method generates in place of the data set's.

    Attributes:
        images: BGR in 0..255, float32 (N, H, W, 3), without gradients.
        labels: int64 (N, H, W).
        loss: of the generator, a scalar; replaces the labels' loss.
    """

    images: Tensor
    labels: Tensor
    loss: Tensor


class Teaching(nn.Module):
    """A teaching term of the loss. Anything it has to learn, such as adapters or networks, is in its parameters.

    The run's own optimizer trains them, in the same step, from the one sum of all losses. Detach whatever must not
    learn from a part of it.
    """

    def forward(self, batch: Batch) -> Tensor | Terms:
        """The term for one batch, a scalar; a method with its own networks returns their loss as well."""
        raise NotImplementedError

    def make(self, images: Tensor, teachers: Teachers) -> Made | None:
        """Generates pictures to learn from instead of the data set's `images`; None keeps those."""
        return None

    def after_epoch(self, network: SegmentationModel) -> None:
        """Called after each epoch; may change the student's weights."""


@dataclass(frozen=True)
class MethodConfig(ABC):
    """The settings of a teaching method. Fields named like a field of `TrainConfig` take its value.

    Attributes:
        weight: of the term, on top of the run's teaching weight. Defaults other than 1 match the gradient of the
            cross-entropy, measured in a fresh ENet with SwiftNet as its teacher.
        until: share of the epochs after which the term is left out, for papers that teach in stages.
    """

    weight: float = 1.0
    until: float = 1.0

    has_teacher: ClassVar[bool] = True
    """Whether another network teaches."""
    makes_pictures: ClassVar[bool] = False
    """Whether the method generates the pictures and labels to learn from, so that the data set's are not used."""
    allowed: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Smallest and largest value of each of the method's own fields."""

    def __post_init__(self) -> None:
        for name, (low, high) in {"weight": (0, 1e5), "until": (0.001, 1), **self.allowed}.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}: allowed is {low:g} to {high:g}")

    @classmethod
    def of(cls, config: TrainConfig, given: Mapping[str, str] | None = None, name: str = "the method") -> Self:
        """Builds the method's config for a training run.

        Args:
            config: of the run.
            given: field values as text, from `--teaching`.
            name: of the method, for errors.

        Raises:
            UsageError: there is no such field, or a value is not allowed.
        """
        run, own = vars(config), {field.name: field.type for field in fields(cls)}
        values = {field: run[field] for field in own if field in run}
        for field, text in (given or {}).items():
            if field not in own:
                raise unknown_name(f"field of {name}", field, list(own))
            values[field] = _read(f"{name}:{field}", text, own[field])
        try:
            return cls(**values)
        except UsageError as error:
            raise UsageError(f"--teaching {name}: {error}") from error

    @abstractmethod
    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        """Builds the term of the loss.

        Args:
            student: the network to train, which has the features' channel counts.
            teachers: the networks that teach; empty if the method needs none.

        Raises:
            UsageError: the method does not fit one of the networks.
        """


def _read(name: str, text: str, kind: Any) -> Any:
    """Parses a field's value."""
    if kind is str:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        wanted = {float: "a number", int: "a whole number", bool: "true or false"}[kind]
        raise UsageError(f"--teaching {name} is {text!r}: it takes {wanted}")
    return value


def channels_of(network: SegmentationModel, name: str) -> int:
    """Channels of a network's named features, or of its logits; raises UsageError if it has no such features."""
    if name == LOGITS:
        return int(network.config.classes)
    found = feature_channels(network)
    if name not in found:
        raise UsageError(f"{type(network).__name__} has no features {name!r}, only {', '.join(found)}: "
                         "choose another --teaching, or others of its features")  # fmt: skip
    return found[name]


def mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the counted values, 0 if there are none; indexing them would make the CPU wait for the device."""
    return (values * counted).sum() / counted.sum().clamp(min=1)
