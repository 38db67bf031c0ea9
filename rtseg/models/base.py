"""What every network has in common."""

from dataclasses import asdict
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rtseg.core.errors import UsageError


class SegmentationModel(nn.Module):
    """Base of all networks; a subclass names its config dataclass and what input sizes fit."""

    config_class: ClassVar[type]
    size_multiple: ClassVar[int]
    logits_stride: ClassVar[int]
    auxiliary_weights: ClassVar[tuple[float, ...]] = ()

    config: Any

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the network; raises UsageError for a field that the config does not have."""
        try:
            return cls(cls.config_class(**config))  # type: ignore[call-arg]
        except TypeError as error:
            raise UsageError(f"{cls.__name__} cannot be built from {config}: {error}") from error

    def config_json(self) -> dict[str, Any]:
        return asdict(self.config)

    def forward_train(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logits, then one auxiliary output for each of `auxiliary_weights`."""
        return (self(x),)


def initialise(model: nn.Module) -> None:
    """He 2015 normal initialisation for convolutions; batch norm starts as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def count_parameters(model: nn.Module) -> int:
    """All trainable parameters, those of auxiliary classifiers included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_inference_parameters(model: SegmentationModel) -> int:
    """Parameters that inference uses: those of auxiliary classifiers are left out."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("auxiliary"))


def count_macs(model: nn.Module, size_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of one picture's inference (convolutions and matrix products), without running it."""
    parameters = {name: p.to("meta") for name, p in [*model.named_parameters(), *model.named_buffers()]}
    picture = torch.empty(1, 3, *size_hw, device="meta")
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        torch.func.functional_call(model, parameters, (picture,))
    model.train(was_training)
    return counter.get_total_flops() // 2
