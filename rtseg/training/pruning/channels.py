"""Finds which channels can only be cut together: added channels depend on each other, concatenated ones do not.

Traces one picture through the network and numbers each channel of each intermediate tensor. A convolution gives its
outputs new numbers; batch norm, activations, pooling and depthwise convolutions pass on those of their inputs; adding
or multiplying two tensors merges the numbers of their channels i. Numbers that end up merged are one `unit`: it is cut
everywhere or nowhere. A unit is fixed if something outside the network, or something unknown to this file, sees it: the
picture, the classes, a mean over channels. This is the dependency graph of Fang et al. 2023 (DepGraph, CVPR, arXiv
2301.12900), with single channels instead of whole layers, so that ENet's zero padding and pooling masks need no special
rules.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rtseg.models import SegmentationModel
from rtseg.models.pruned import is_depthwise, widths

_CHANNELWISE = {
    "add", "iadd", "radd", "sub", "isub", "rsub", "mul", "imul", "rmul", "div", "truediv", "maximum", "minimum",
    "eq", "ne", "lt", "gt", "le", "ge", "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "sigmoid",
    "silu", "gelu", "elu", "leaky_relu", "tanh", "softplus", "prelu", "neg", "abs", "exp", "sqrt", "pow",
    "clamp", "clamp_min", "dropout", "dropout2d", "feature_dropout", "max_pool2d", "avg_pool2d",
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate", "mean", "amax", "amin", "sum", "expand", "to",
    "float", "type_as", "clone", "contiguous", "detach", "pad",
}  # fmt: skip
"""Functions whose channel i depends only on channel i of each argument; `_spatial` has conditions for some."""
_LAYERS = ("conv2d", "conv_transpose2d", "batch_norm", "prelu")
_PAD = -1  # the number of a zero channel that padding has appended


@dataclass(frozen=True)
class Seen:
    """A layer and the units of its channels, in order."""

    layer: nn.Module
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Channels:
    """The units of a network.

    Attributes:
        layers: the layers that can be narrowed, by name.
        fixed: the units that must stay.
    """

    layers: dict[str, Seen]
    fixed: frozenset[int]

    def groups(self) -> list[list[int]]:
        """The units that may be cut, grouped by the layers they are in; those of a group compete with each other."""
        places: dict[int, set[tuple[str, bool]]] = {}
        for name, seen in self.layers.items():
            for is_output, units in enumerate((seen.inputs, seen.outputs)):
                for unit in units:
                    places.setdefault(unit, set()).add((name, bool(is_output)))
        found: dict[frozenset[tuple[str, bool]], list[int]] = {}
        for unit, where in places.items():
            if unit not in self.fixed:
                found.setdefault(frozenset(where), []).append(unit)
        return list(found.values())


@torch.no_grad()
def trace(model: SegmentationModel) -> Channels:
    """Finds the units of a network, auxiliary classifiers included, using the second smallest picture that fits."""
    was_training = model.training
    watch = _Watch(model)
    side = 2 * model.size_multiple
    picture = torch.zeros(1, 3, side, side)
    with watch:
        outputs = model.eval().forward_train(picture)
    model.train(was_training)
    for seen in (outputs.logits, *outputs.auxiliary):
        watch.fix(seen)
    return watch.channels()


class _Watch(TorchFunctionMode):
    """Tracks channel numbers through all functions that the network calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._names: dict[int, tuple[str, nn.Module]] = {}
        for name, layer in model.named_modules():
            if widths(layer) is not None:
                self._names[id(layer.weight)] = (name, layer)  # identifies the layer of a call
        self._parents: list[int] = []  # of the numbers, as a forest: same root, same unit
        self._fixed: set[int] = set()
        self._numbers: dict[int, tuple[Tensor, list[int]]] = {}  # keeps the tensor alive, so that its id stays unique
        self._layers: dict[str, tuple[nn.Module, list[int], list[int]]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        inputs = [value for value in _flat((*args, *(kwargs or {}).values())) if isinstance(value, Tensor)]
        known = next((self._names[id(value)] for value in inputs if id(value) in self._names), None)
        if known is not None and name in _LAYERS:
            self._layer(*known, inputs[0], result)
        elif any(id(value) in self._numbers for value in inputs) or name == "cat":
            self._call(name, args, kwargs or {}, inputs, result)
        return result

    def channels(self) -> Channels:
        """Returns the units found."""
        layers = {
            name: Seen(layer, tuple(map(self._root, inputs)), tuple(map(self._root, outputs)))
            for name, (layer, inputs, outputs) in self._layers.items()
        }
        return Channels(layers, frozenset(map(self._root, self._fixed)))

    def fix(self, value: Tensor) -> None:
        """Marks the channels of a tensor as fixed."""
        self._fixed.update(number for number in self._of(value) if number != _PAD)

    def _layer(self, name: str, layer: nn.Module, x: Tensor, result: Tensor) -> None:
        """Handles a call of a layer that can be narrowed."""
        inputs = self._real(x)
        mixes = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not is_depthwise(layer)
        outputs = self._new(result.shape[1]) if mixes else inputs
        if name in self._layers:  # called twice: inputs and outputs are the same units both times
            _, before, after = self._layers[name]
            self._join(before, inputs)
            self._join(after, outputs)
        self._layers[name] = (layer, inputs, outputs)
        self._set(result, outputs)

    def _call(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], inputs: list[Tensor], result: Any
    ) -> None:  # fmt: skip
        if not isinstance(result, Tensor):
            if any(isinstance(value, Tensor) for value in _flat((result,))):
                self._fix_all(inputs)
        elif name == "cat" and _axis(args, kwargs, 0) in (1, -3) and result.ndim == 4:
            self._set(result, [number for value in inputs for number in self._of(value)])
        elif name == "pad" and _pads_channels(args, kwargs):
            padding = args[1]
            if len(padding) == 6 and padding[4] == 0 < padding[5] and not any(padding[:4]) and not kwargs.get("value"):
                self._set(result, [*self._real(inputs[0]), *[_PAD] * padding[5]])
            else:
                self._fix_all(inputs)
        elif name in _CHANNELWISE and result.ndim == 4 and _spatial(name, args, kwargs):
            self._set(result, self._joined(name, inputs, result.shape[1]))
        else:
            self._fix_all(inputs)

    def _joined(self, name: str, inputs: list[Tensor], count: int) -> list[int]:
        """The numbers of a result that combines its arguments per channel; a one-channel argument affects them all."""
        sums = name in ("add", "iadd", "radd") and len(inputs) == 2
        partners = []
        for value in inputs:
            channels = value.shape[-3] if value.ndim >= 3 else 1
            if value.ndim == 4 and channels == count:
                partners.append(self._of(value) if sums else self._real(value))
            elif channels == count > 1:  # a constant with one value per channel
                partners.append(self._constant(count))
            elif id(value) in self._numbers:
                self.fix(value)
        first, *others = partners or [self._constant(count)]
        for other in others:
            self._join(first, other)
        return [max(alternatives) for alternatives in zip(first, *others, strict=True)]  # zeros add nothing

    def _join(self, one: Iterable[int], other: Iterable[int]) -> None:
        for a, b in zip(one, other, strict=True):
            if _PAD not in (a, b):
                self._parents[self._root(a)] = self._root(b)

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number

    def _new(self, count: int) -> list[int]:
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return list(range(first, first + count))

    def _constant(self, count: int) -> list[int]:
        numbers = self._new(count)
        self._fixed.update(numbers)
        return numbers

    def _of(self, value: Tensor) -> list[int]:
        """The numbers of a tensor's channels; fixed if the tensor was not computed by a layer."""
        if id(value) not in self._numbers:
            self._set(value, self._constant(value.shape[1] if value.ndim == 4 else 0))
        return self._numbers[id(value)][1]

    def _real(self, value: Tensor) -> list[int]:
        """The same for functions that do not keep channels of zeros at zero."""
        numbers = [self._constant(1)[0] if number == _PAD else number for number in self._of(value)]
        self._set(value, numbers)
        return numbers

    def _set(self, value: Tensor, numbers: list[int]) -> None:
        self._numbers[id(value)] = (value, numbers)

    def _fix_all(self, values: Iterable[Tensor]) -> None:
        for value in values:
            if id(value) in self._numbers:
                self.fix(value)


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _axis(args: Sequence[Any], kwargs: dict[str, Any], default: int | None) -> Any:
    return kwargs.get("dim", args[1] if len(args) > 1 else default)


def _spatial(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function leaves the channel axis alone."""
    if name in ("mean", "amax", "amin", "sum"):
        axes = _axis(args, kwargs, None)
        return axes is not None and set(axes if isinstance(axes, list | tuple) else [axes]) <= {2, 3, -1, -2}
    return name != "pad" or not _pads_channels(args, kwargs)


def _pads_channels(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return any(kwargs.get("pad", args[1] if len(args) > 1 else ())[4:])
