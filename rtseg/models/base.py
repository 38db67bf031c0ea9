"""The base class of all networks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name


class Normalisation(NamedTuple):
    """How images are scaled for a network: (x - mean) / std of RGB values in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _with(kind: Callable[[Iterable[Any]], Any], instead: type[Sequence[Any]], value: Any) -> Any:
    """Returns `value` with its lists as tuples, or the other way round."""
    return kind([_with(kind, instead, entry) for entry in value]) if isinstance(value, instead) else value


LAST = "last"
"""Name of the features that the final classifier reads."""


class Outputs(NamedTuple):
    """A network's outputs in training.

    Attributes:
        logits: (N, C, H/s, W/s).
        auxiliary: one (N, C, ·, ·) for each of `auxiliary_weights`, the early exits first.
        features: see `SegmentationModel.features`.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    features: dict[str, Tensor]


IMAGENET_STATISTICS = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class SegmentationModel(nn.Module):
    """Base of all networks. A subclass names its config dataclass and which input sizes fit, and implements `features`.

    Attributes:
        size_multiple: input height and width must be multiples of this. Set on the class, or on the instance if the
            config decides it.
        logits_stride: the logits are this many times smaller than the input. Set likewise.
        auxiliary_weights: weight of each auxiliary output in the loss.
        auxiliary_features: name of the features that each auxiliary classifier reads.
        early: names of the early exits, in the order in which they are computed; each is named after the features it
            reads. Their logits are the first auxiliary outputs, and the only ones that ship.
        normalisation: how images are scaled; a network on an encoder uses the encoder's.
        classifier: the last layer; reads the features `last`.
    """

    config_class: ClassVar[type]
    size_multiple: int
    logits_stride: int
    auxiliary_weights: tuple[float, ...] = ()
    auxiliary_features: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    normalisation: Normalisation = IMAGENET_STATISTICS

    config: Any
    classifier: nn.Module

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the network from its config's fields; lists may stand for tuples.

        Raises:
            UsageError: the config has no such field, or a value is not allowed.
            WeightsError: the pretrained weights cannot be fetched or read.
        """
        allowed = [field.name for field in fields(cls.config_class)]
        for name in config:
            if name not in allowed:
                raise unknown_name(f"field of {cls.__name__}", name, allowed)
        values = {name: _with(tuple, list, value) for name, value in config.items()}
        try:
            return cls(cls.config_class(**values))
        except TypeError as error:
            raise UsageError(f"{cls.__name__} cannot be built from {config}: {error}") from error

    def config_json(self) -> dict[str, Any]:
        """The config fields to rebuild the network from, without `pretrained`, so that rebuilding never asks a hub.

        `pruned` and `exits` are left out if empty, so that the cards of other networks do not change.
        """
        values = {field.name: getattr(self.config, field.name) for field in fields(self.config)}
        left_out = {"pretrained", *(name for name in ("pruned", "exits") if not values.get(name))}
        return {name: _with(list, tuple, value) for name, value in values.items() if name not in left_out}

    def trunk(self) -> list[nn.Module]:
        """The layers that another network may start from, in computation order; empty if there is no trunk."""
        return []

    def trunk_copies(self) -> list[nn.Module]:
        """Further copies of the trunk's first layers, with separate weights that start out equal to the trunk's."""
        return []

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Computes the named intermediate results that classifiers and distillation methods read.

        Args:
            x: float32 (N, 3, H, W), RGB, normalised.

        Returns:
            (N, ·, h, w) each. Among them are `last`, which the classifier reads, and e.g. `encoder/16`, the encoder's
            features at stride 16 (or those that would be at stride 16 without dilation).
        """
        raise NotImplementedError

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        """`features` -> logits (N, C, H/s, W/s)."""
        logits: Tensor = self.classifier(features[LAST])
        return logits

    def auxiliary_logits(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """`features` -> one (N, C, ·, ·) for each of `auxiliary_weights`, the early exits first."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W) -> logits (N, C, H/s, W/s)."""
        return self.classify(self.features(x))

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The results of `forward` and `features`, computed together."""
        features = self.features(x)
        return self.classify(features), features

    def forward_train(self, x: Tensor) -> Outputs:
        """Like `forward`, plus the outputs that only training needs."""
        logits, features = self.logits_and_features(x)
        return Outputs(logits, self.auxiliary_logits(features), features)


@torch.no_grad()
def feature_channels(model: SegmentationModel) -> dict[str, int]:
    """Returns the channel count of each named feature, found by running the smallest input that fits."""
    was_training = model.training
    features = model.eval().features(torch.zeros(1, 3, model.size_multiple, model.size_multiple))
    model.train(was_training)
    return {name: value.shape[1] for name, value in features.items()}


def initialise(model: nn.Module) -> None:
    """He 2015 normal initialisation for convolutions; batch norm starts as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.groups > 1:  # each output reads one group only, which torch's fan-out ignores
                with torch.no_grad():
                    module.weight.mul_(module.groups**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def count_inference_parameters(model: SegmentationModel) -> int:
    """Parameters used by inference to the end: without auxiliary classifiers and early exits."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(("auxiliary", "exits.")))


def count_macs(model: nn.Module, size_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of inference on one image, counted without running it.

    Pooling and interpolation count as zero, unless torch is set to deterministic algorithms.
    """
    return int(_counted(model, size_hw).get_total_flops()) // 2


def count_macs_by_layer(model: SegmentationModel, size_hw: tuple[int, int]) -> dict[str, int]:
    """The same per module, with all auxiliary outputs.

    The keys are layers, named as in the state dict without `.weight`, and modules that compute with the weights of
    layers inside them, such as CliqueNet's blocks.
    """

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Outputs:
            return self.model.forward_train(x)

    found = _counted(Whole(), size_hw).get_flop_counts()
    total = {name.removeprefix("Whole.model."): sum(flops.values()) // 2 for name, flops in found.items()}
    own = dict(total)
    for name, macs in total.items():
        around, _, _ = name.rpartition(".")
        while around and around not in total:
            around, _, _ = around.rpartition(".")
        if around:
            own[around] -= macs
    return {name: macs for name, macs in own.items() if macs and name not in ("Global", "Whole", "Whole.model")}


def _counted(model: nn.Module, size_hw: tuple[int, int]) -> FlopCounterMode:
    parameters = {name: p.to("meta") for name, p in [*model.named_parameters(), *model.named_buffers()]}
    picture = torch.empty(1, 3, *size_hw, device="meta")
    was_training = model.training
    model.eval()
    counter = FlopCounterMode(display=False)
    with counter:
        torch.func.functional_call(model, parameters, (picture,))
    model.train(was_training)
    return counter
