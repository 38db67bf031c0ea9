"""What every way of teaching has in common: its config, and the term of the loss that is built from it."""

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
"""Name that stands for a network's logits where features are named."""


@dataclass(frozen=True)
class Batch:
    """A batch as ways of teaching see it; what the networks say about it is computed once, when it is asked for.

    Attributes:
        images: the pictures, BGR in 0..255, (N, H, W, 3); uint8, or float32 where a method makes them.
        labels: int64 (N, H, W).
        ignore_index: the label of what is not known.
        network: the network that learns.
        forward: its `forward_train`, or that compiled.
        label_loss: the loss that the labels give for outputs of a network of this architecture.
        teachers: the networks that teach; may be none.
        progress: the share of the run's epochs that is done, 0..1.
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
        """What the network that learns says about other pictures, as `images`; with gradients."""
        return self.forward(network_input(self.network, images))

    @cached_property
    def student(self) -> Outputs:
        """What the network that learns says about the pictures."""
        return self.look(self.images)

    @cached_property
    def seen(self) -> list[Seen]:
        """What each teacher says about them, without gradients."""
        return self.teachers.see(self.images)

    @cached_property
    def truth(self) -> Tensor:
        """The labels at the logits' size, int64 (N, h, w)."""
        return self.truth_at(self.student.logits)

    @cached_property
    def labelled(self) -> Tensor:
        """Where they are known, bool (N, h, w): much of the rest is padding, about which there is nothing to say."""
        return self.truth != self.ignore_index

    def truth_at(self, like: Tensor) -> Tensor:
        """The labels at the size of `like`, (N, ·, h, w): int64 (N, h, w)."""
        return shrink_labels(self.labels, (like.shape[-2], like.shape[-1]))

    def labelled_at(self, like: Tensor) -> Tensor:
        """Where they are known, bool (N, h, w)."""
        return self.truth_at(like) != self.ignore_index


class Terms(NamedTuple):
    """What a method with networks of its own gives for a batch.

    Attributes:
        term: of the loss of the network that learns, a scalar.
        own: the loss of the method's own networks, a scalar; its weight is always 1.
    """

    term: Tensor
    own: Tensor


class Made(NamedTuple):
    """A batch that a method makes, in place of the data set's.

    Attributes:
        images: BGR in 0..255, float32 (N, H, W, 3), without gradients.
        labels: int64 (N, H, W).
        loss: of what makes them, a scalar, in place of the labels' loss.
    """

    images: Tensor
    labels: Tensor
    loss: Tensor


class Teaching(nn.Module):
    """A teaching term of the loss. What it has to learn itself, such as adapters or networks, are its parameters.

    They are trained by the run's own optimizer, in the same step, from the one sum of all losses. What must not learn
    from a part of it is detached there.
    """

    def forward(self, batch: Batch) -> Tensor | Terms:
        """The term for one batch, a scalar; with networks of its own, their loss as well."""
        raise NotImplementedError

    def make(self, images: Tensor, teachers: Teachers) -> Made | None:
        """Pictures to learn from instead of the data set's `images`; None leaves those."""
        return None

    def after_epoch(self, network: SegmentationModel) -> None:
        """Called when an epoch is done; may change weights of the network that learns."""


@dataclass(frozen=True)
class MethodConfig(ABC):
    """What a way of teaching is set up with. A field that is called like one of `TrainConfig`'s takes its value.

    Attributes:
        weight: of the term, beside the run's teaching weight. Another default than 1 gives about the slope of the
            cross-entropy in a fresh ENet that SwiftNet teaches.
        until: the share of the epochs after which the term is left out, as for papers that teach in stages.
    """

    weight: float = 1.0
    until: float = 1.0

    has_teacher: ClassVar[bool] = True
    """Whether it is another network that teaches."""
    makes_pictures: ClassVar[bool] = False
    """Whether the method makes what is learned from, so that neither pictures nor labels of the data set count."""
    allowed: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Smallest and largest value of the method's own fields."""

    def __post_init__(self) -> None:
        for name, (low, high) in {"weight": (0, 1e5), "until": (0.001, 1), **self.allowed}.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}: allowed is {low:g} to {high:g}")

    @classmethod
    def of(cls, config: TrainConfig, given: Mapping[str, str] | None = None, name: str = "the method") -> Self:
        """The method's config in a training run.

        Args:
            config: of the run.
            given: values of fields as `--teaching` gives them.
            name: of the method, for errors.

        Raises:
            UsageError: no such field, or a value that is not allowed.
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
        """The term of the loss.

        Args:
            student: the network that learns: says what channels its features have.
            teachers: the networks that teach; none where the method has none.

        Raises:
            UsageError: the method does not fit one of the networks.
        """


def _read(name: str, text: str, kind: Any) -> Any:
    """A field's value from its text."""
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
    """The channels of a network's features of that name, or of its logits; raises UsageError where it has none."""
    if name == LOGITS:
        return int(network.config.classes)
    found = feature_channels(network)
    if name not in found:
        raise UsageError(f"{type(network).__name__} has no features {name!r}, only {', '.join(found)}: "
                         "choose another --teaching, or others of its features")  # fmt: skip
    return found[name]


def mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the counted values, 0 where none is; picking them out would make the device wait."""
    return (values * counted).sum() / counted.sum().clamp(min=1)
