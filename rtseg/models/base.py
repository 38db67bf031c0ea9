"""What every network has in common."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name


class Normalisation(NamedTuple):
    """How pictures are scaled for a network: (x - mean) / std of RGB values in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _with(kind: Callable[[Iterable[Any]], Any], instead: type[Sequence[Any]], value: Any) -> Any:
    """`value` with lists as tuples, or the other way round."""
    return kind([_with(kind, instead, entry) for entry in value]) if isinstance(value, instead) else value


LAST = "last"
"""Name of the features that a network's classifier sees."""


class Outputs(NamedTuple):
    """What a network gives while it trains.

    Attributes:
        logits: (N, C, H/s, W/s).
        auxiliary: one (N, C, ·, ·) for each of `auxiliary_weights`, those of the early exits first.
        features: see `SegmentationModel.features`.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    features: dict[str, Tensor]


IMAGENET_STATISTICS = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class SegmentationModel(nn.Module):
    """Base of all networks; a subclass names its config dataclass and what input sizes fit, and gives `features`.

    Attributes:
        size_multiple: input height and width must be multiples of this; of the class, or of an instance where the
            config decides it.
        logits_stride: the logits are this many times smaller than the input; likewise.
        auxiliary_weights: share in the loss of each auxiliary output.
        auxiliary_features: name of the features that each auxiliary classifier sees.
        early: names of the early exits, in the order in which they compute; each is that of the features it sees. Their
            logits are the first auxiliary outputs, of which these ship.
        normalisation: how pictures are scaled; a network on an encoder follows the encoder.
        classifier: ends the network; sees the features `last`.
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
        """Builds the network from its config's fields, tuples as lists too.

        Raises:
            UsageError: the config has no such field, or a value is not allowed.
            WeightsError: pretrained weights cannot be had.
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
        """What the network is rebuilt from; without `pretrained`, so that rebuilding never asks a hub.

        `pruned` and `exits` are there only where something is, so that the cards of other networks stay as they were.
        """
        values = {field.name: getattr(self.config, field.name) for field in fields(self.config)}
        left_out = {"pretrained", *(name for name in ("pruned", "exits") if not values.get(name))}
        return {name: _with(list, tuple, value) for name, value in values.items() if name not in left_out}

    def trunk(self) -> list[nn.Module]:
        """The layers that another network may start from, in the order in which they compute; none without a trunk."""
        return []

    def trunk_copies(self) -> list[nn.Module]:
        """Further copies of the trunk's first layers, each with weights of its own that start as the trunk's."""
        return []

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """What the network computes on its way, by name: what its classifiers, and ways of teaching, look at.

        Args:
            x: float32 (N, 3, H, W), RGB, normalised.

        Returns:
            (N, ·, h, w) each, among them `last`, which the classifier sees; `encoder/16` is what an encoder gives at
            stride 16, or would give there if it were not dilated.
        """
        raise NotImplementedError

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        """`features` -> logits (N, C, H/s, W/s)."""
        logits: Tensor = self.classifier(features[LAST])
        return logits

    def auxiliary_logits(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """`features` -> one (N, C, ·, ·) for each of `auxiliary_weights`, those of the early exits first."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W) -> logits (N, C, H/s, W/s)."""
        return self.classify(self.features(x))

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What `forward` and `features` give, computed once."""
        features = self.features(x)
        return self.classify(features), features

    def forward_train(self, x: Tensor) -> Outputs:
        """As `forward`, with what only training needs."""
        logits, features = self.logits_and_features(x)
        return Outputs(logits, self.auxiliary_logits(features), features)


@torch.no_grad()
def feature_channels(model: SegmentationModel) -> dict[str, int]:
    """How many channels each of a network's named features has, found out on the smallest picture."""
    was_training = model.training
    features = model.eval().features(torch.zeros(1, 3, model.size_multiple, model.size_multiple))
    model.train(was_training)
    return {name: value.shape[1] for name, value in features.items()}


def initialise(model: nn.Module) -> None:
    """He 2015 normal initialisation for convolutions; batch norm starts as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.groups > 1:  # each output is read by one group only, which torch's fan-out does not know
                with torch.no_grad():
                    module.weight.mul_(module.groups**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def count_inference_parameters(model: SegmentationModel) -> int:
    """Parameters that inference to the end uses: those of auxiliary classifiers and early exits are left out."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(("auxiliary", "exits.")))


def count_macs(model: nn.Module, size_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of one picture's inference, without running it.

    Pooling and interpolation count nothing, unless torch is set to deterministic algorithms.
    """
    return int(_counted(model, size_hw).get_total_flops()) // 2


def count_macs_by_layer(model: SegmentationModel, size_hw: tuple[int, int]) -> dict[str, int]:
    """The same by the names of the modules that compute them, with all auxiliary outputs.

    These are layers, called as in the state dict without `.weight`, and modules that compute with weights of the layers
    in them, such as CliqueNet's blocks.
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
