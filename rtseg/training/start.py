"""The initial weights of a run, taken from a trained network as far as they fit."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel, build_model
from rtseg.models.encoders import ENCODERS, setting_names
from rtseg.models.encoders.sampling import is_offset
from rtseg.models.weights import is_classifier, may_lack, restore
from rtseg.training.config import TrainConfig
from rtseg.training.origin import Origin


@dataclass(frozen=True)
class Start:
    """What a network has taken from another one.

    Attributes:
        origin: the other network.
        only_trunk: whether the architectures differ, and only the trunk was taken.
        fresh: names in the state dict that keep their fresh weights.
    """

    origin: Origin
    only_trunk: bool
    fresh: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """The entry for a card."""
        return {**self.origin.identity(), **({"part": "trunk"} if self.only_trunk else {})}

    def told(self) -> str | None:
        """A line on the layers that start fresh, if there are any."""
        if self.only_trunk:
            return f"from {self.origin.given} only the trunk is taken, the rest starts fresh"
        if not self.fresh:
            return None
        parts = dict.fromkeys(name if name.startswith("network") else name.split(".")[0] for name in self.fresh)
        return f"{self.origin.given} has no fitting weights for {', '.join(parts)}: they start fresh"


def architecture(config: TrainConfig, start: Origin | None) -> dict[str, Any]:
    """The config fields to build the network with: those of its start, overridden by the requested ones."""
    before = start.config if start is not None and start.model == config.model else {}
    asked = config.model_config()
    encoder = before.get("encoder")
    if (
        isinstance(encoder, str) and encoder in ENCODERS and asked.get("encoder", encoder) != encoder
    ):  # another encoder does not have its fields
        before = {name: value for name, value in before.items() if name not in setting_names(encoder)}
    return {**before, **asked}


def start_from(model: SegmentationModel, origin: Origin) -> Start:
    """Copies the weights of a trained network into `model`.

    Classifiers keep their fresh weights if their shape differs, for example because the number of classes does. From
    another architecture only the trunk is taken, unless `model` has all its layers. Exits that `model` lacks are left
    out.

    Raises:
        UsageError: the networks have the same architecture with other fields, or different trunks.
        WeightsError: the file is missing or damaged.
    """
    state = origin.state()
    source = build_model(origin.model, origin.config)
    own = model.state_dict()
    if differing(model, source) == ["column"]:  # one FractalNet column starts from a network of all columns
        state = {name: value for name, value in state.items() if name in own}
    if type(source) is type(model):  # heads of exits that it lacks
        state = {name: value for name, value in state.items() if name in own or not name.startswith("exits.")}
    if not set(state) <= set(own):
        restore(source, state, origin.given)
        try:
            take_trunk(model, source)
        except UsageError:
            lacking = next((name for name in own if name not in state and not may_lack(name)), None)
            if type(source) is type(model) and lacking is not None:
                raise _does_not_fit(model, source, origin, lacking, None) from None
            raise
        return Start(origin, True, ())
    fitting = {name: value for name, value in state.items() if value.shape == own[name].shape}
    fresh = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    whole = type(source) is type(model)  # or one is a part of the other, such as ENet's encoder
    for name in fresh:
        neutral = name not in state and is_offset(name)  # active and deformable convolutions start as plain ones
        if not (is_classifier(name) or may_lack(name) or neutral or (name not in state and not whole)):
            raise _does_not_fit(model, source, origin, name, state.get(name))
    model.load_state_dict(fitting, strict=False)
    return Start(origin, False, tuple(fresh))


def _does_not_fit(
    model: SegmentationModel, source: SegmentationModel, origin: Origin, name: str, value: Tensor | None
) -> UsageError:
    """The error for a weight that `source`, the network of `origin`, lacks or has in another shape."""
    wanted = tuple(model.state_dict()[name].shape)
    found = f"lacks {name}" if value is None else f"has {name} as {tuple(value.shape)} instead of {wanted}"
    fields = differing(model, source)
    out = " and ".join("--encoder" if f == "encoder" else f"--set {f}" for f in fields)
    hint = f"leave {out} out" if out else "start from another network"
    return UsageError(f"{origin.given} does not fit {type(model).__name__} with {model.config}: it {found}: {hint}")


def differing(model: SegmentationModel, source: SegmentationModel) -> list[str]:
    """Config fields, except classes, that the other network lacks or has with another value."""
    theirs = source.config_json()
    return [f for f, v in model.config_json().items() if f != "classes" and theirs.get(f) != v]


def take_trunk(model: SegmentationModel, source: SegmentationModel) -> None:
    """Copies the trunk of `source` into `model`; the weights must have the same shapes in the same order.

    Raises:
        UsageError: one of them has no trunk, or they differ.
    """
    own, found = (nn.ModuleList(network.trunk()).state_dict() for network in (model, source))
    shapes = [[tuple(value.shape) for value in state.values()] for state in (own, found)]
    if not own or shapes[0] != shapes[1]:
        raise UsageError(f"a {type(model).__name__} with {model.config} cannot start from a {type(source).__name__} "
                         f"with {source.config}: their trunks are not the same")  # fmt: skip
    with torch.no_grad():
        for target, value in zip(own.values(), found.values(), strict=True):
            target.copy_(value)
        for copy in model.trunk_copies():
            state = list(copy.state_dict().values())
            for target, value in zip(state, list(found.values())[: len(state)], strict=True):
                target.copy_(value)
