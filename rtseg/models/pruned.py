"""Layers with fewer channels than the config implies: how a pruned network is rebuilt from its card alone."""

from typing import Any

import torch
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import SegmentationModel, count_macs_by_layer, initialise

Width = tuple[str, int | None, int | None]
"""(layer, inputs, outputs), the layer named as in the state dict; None if the rest of the config implies the number."""


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a convolution has one filter per channel."""
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels == layer.out_channels


def widths(layer: nn.Module) -> tuple[int, int] | None:
    """Returns (inputs, outputs) of a layer that can be narrowed, None for any other.

    These are convolutions, dense or depthwise, and batch norms and PReLUs with one weight per channel.
    """
    if isinstance(layer, nn.BatchNorm2d) and layer.affine and layer.track_running_stats:
        return layer.num_features, layer.num_features
    if isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
        return layer.num_parameters, layer.num_parameters
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and (layer.groups == 1 or is_depthwise(layer)):
        return layer.in_channels, layer.out_channels
    return None


@torch.no_grad()
def keep_channels(layer: nn.Module, inputs: Tensor | None, outputs: Tensor | None) -> None:
    """Cuts a layer down to some of its channels, in place.

    Args:
        layer: one that has `widths`.
        inputs: int64 indices of the channels to keep; None keeps all. Ignored by layers that map channels one to one
            (batch norm, PReLU, depthwise convolution), which follow `outputs`.
        outputs: likewise.
    """
    transposed = isinstance(layer, nn.ConvTranspose2d)
    mixes = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not is_depthwise(layer)
    if inputs is not None and mixes:
        _keep(layer, "weight", 0 if transposed else 1, inputs)
    if outputs is not None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            _keep(layer, name, 1 if transposed and name == "weight" else 0, outputs)
    _count_again(layer)


def _keep(layer: nn.Module, name: str, axis: int, kept: Tensor) -> None:
    value = getattr(layer, name, None)
    if value is not None:
        cut = value.index_select(axis, kept)
        setattr(layer, name, nn.Parameter(cut) if isinstance(value, nn.Parameter) else cut)


def _count_again(layer: nn.Module) -> None:
    """Updates a layer's channel counts to match its weight."""
    assert isinstance(layer.weight, Tensor)
    if isinstance(layer, nn.BatchNorm2d):
        layer.num_features = len(layer.weight)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)
    elif isinstance(layer, nn.ConvTranspose2d):
        layer.in_channels, layer.out_channels = layer.weight.shape[:2]
    elif isinstance(layer, nn.Conv2d):
        depthwise = layer.groups > 1
        layer.out_channels = len(layer.weight)
        layer.in_channels = layer.out_channels if depthwise else layer.weight.shape[1]
        layer.groups = layer.out_channels if depthwise else 1


def narrow(model: SegmentationModel, pruned: tuple[Width, ...]) -> None:
    """Narrows layers of a freshly built network to the widths in its config's `pruned`.

    Convolutions that change get fresh weights, because the scale of their initialisation depends on the widths.

    Raises:
        UsageError: there is no such layer, it has no more channels than it should be narrowed to, or the layers do not
            fit together, for example because the rest of the config is not that of the pruned network.
    """
    for entry in pruned:
        name, inputs, outputs = _checked(entry)
        try:
            layer = model.get_submodule(name)
        except AttributeError:
            raise UsageError(f"pruned names {name}, which is not in a {type(model).__name__} that is built as the rest "
                             "of the config says") from None  # fmt: skip
        found = widths(layer)
        if found is None:
            raise UsageError(f"pruned names {name}: only a convolution, batch norm or PReLU can be narrowed")
        for what, wanted, has in zip(("inputs", "outputs"), (inputs, outputs), found, strict=True):
            if wanted is not None and not 1 <= wanted <= has:
                raise UsageError(f"pruned gives {name} {wanted} {what}, but as the rest of the config says it has "
                                 f"{has}: leave out what differs from the network that was pruned")  # fmt: skip
        keep_channels(layer, *(None if count is None else torch.arange(count) for count in (inputs, outputs)))
        initialise(layer)
    try:
        count_macs_by_layer(model, (2 * model.size_multiple, 2 * model.size_multiple))
    except RuntimeError as error:
        raise UsageError("pruned gives layers channels that do not fit together as the rest of the config builds a "
                         f"{type(model).__name__}: leave out what differs from the network that was pruned "
                         f"({str(error).splitlines()[0]})") from error  # fmt: skip


def _checked(entry: Any) -> Width:
    if (
        not isinstance(entry, tuple) or len(entry) != 3 or not isinstance(entry[0], str)
        or not all(count is None or type(count) is int for count in entry[1:])
    ):  # fmt: skip
        raise UsageError(f"pruned holds {entry!r}: each entry is a layer's name, its inputs and its outputs")
    return entry
