"""Cuts a network down to a share of its channels, or of its multiply-accumulates."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rtseg.core.errors import UsageError
from rtseg.core.sizes import Size
from rtseg.models import SegmentationModel
from rtseg.models.base import count_macs
from rtseg.models.pruned import Width, keep_channels
from rtseg.training.pruning import METHODS
from rtseg.training.pruning.channels import Channels, trace

STEP = 8  # channels that CPU kernels compute at once
_LEAST = 0.1  # share of a layer's channels that always stays
_SEARCH = 8  # bisection steps
PAPER_SIZE: Size = (1024, 2048)


@dataclass(frozen=True)
class Chosen:
    """The channels of a network, ranked by score.

    Attributes:
        channels: all channels.
        groups: the units of each group that may be cut, best first, and their scores.
    """

    channels: Channels
    groups: list[tuple[list[int], list[float]]]


def rank(model: SegmentationModel, method: str, seed: int = 0) -> Chosen:
    """Scores all channels of a network.

    Args:
        model: the network.
        method: one of `METHODS`.
        seed: for methods that draw random numbers.

    Raises:
        UsageError: there is no such method, or it cannot cut any channel of the network.
    """
    score, channels = METHODS.get(method), trace(model)
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, list[float]] = {}
    for seen in channels.layers.values():
        scores = score(seen.layer, generator)
        if scores is not None:
            for unit, value in zip(seen.outputs, scores.tolist(), strict=True):
                found.setdefault(unit, []).append(value)
    means = {unit: sum(values) / len(values) for unit, values in found.items()}
    groups = []
    for group in channels.groups():
        if all(unit in means for unit in group):
            ordered = sorted(group, key=lambda unit: -means[unit])  # stable: among equals the first stays
            groups.append((ordered, [means[unit] for unit in ordered]))
    if not groups:
        raise UsageError(f"method {method} finds no channel in a {type(model).__name__} that could be cut: "
                         "choose another --method")  # fmt: skip
    return Chosen(channels, groups)


def rounded(count: float) -> int:
    """Rounds a number of channels, from 8 on to a multiple of 8, which CPUs compute at once; at least one."""
    return math.floor(count / STEP + 0.5) * STEP if count >= STEP else max(1, round(count))


def kept_units(chosen: Chosen, keep: float, per: Literal["layer", "global"] = "layer") -> set[int]:
    """Returns the units to keep, among those that may be cut.

    Args:
        chosen: all units, scored.
        keep: share of the channels to keep, above 0 and at most 1.
        per: 'layer' keeps that share of every group of layers with common channels; 'global' keeps the best of all
            layers, and at least a tenth of each.
    """
    least = -math.inf
    if per == "global":
        every = sorted((score for _, scores in chosen.groups for score in scores), reverse=True)
        least = every[max(1, round(keep * len(every))) - 1]
    gone: set[int] = set()
    kept: set[int] = set()
    for (units, scores), axis in _by_axis(chosen):
        count = keep * len(units)
        if per == "global":
            count = max(_LEAST * len(units), sum(score >= least for score in scores))
        if count < len(units):
            beside = sum(unit not in gone for unit in axis) - len(units)
            count = min(len(units), max(1, rounded(count + beside) - beside))
        kept.update(units[: int(count)])
        gone.update(units[int(count) :])
    return kept


def _by_axis(chosen: Chosen) -> list[tuple[tuple[list[int], list[float]], tuple[int, ...]]]:
    """Each group with the channels whose count should stay a multiple of 8, narrow ones first.

    They are those of the narrowest layer whose width is a multiple of 8: the group's own or, as in ENet's zero-padded
    sums, its own and those of earlier groups.
    """
    layers = chosen.channels.layers.values()
    axes = sorted((axis for seen in layers for axis in (seen.inputs, seen.outputs)), key=len)
    holding: dict[int, tuple[int, ...]] = {}
    for axis in axes:
        if len(axis) % STEP == 0:
            for unit in axis:
                holding.setdefault(unit, axis)
    found = [(group, holding.get(group[0][0], tuple(group[0]))) for group in chosen.groups]
    return sorted(found, key=lambda pair: len(pair[1]))


def cut(model: SegmentationModel, chosen: Chosen, kept: set[int]) -> SegmentationModel:
    """Returns the network without the units that may be cut and are not in `kept`; `model` is unchanged.

    The new config lists the layers that are narrower than its other fields imply.

    Raises:
        UsageError: the network cannot be computed with fewer channels.
    """
    gone = {unit for units, _ in chosen.groups for unit in units} - kept
    smaller = copy.deepcopy(model)
    entries: dict[str, Width] = {entry[0]: entry for entry in model.config.pruned}
    for name, seen in chosen.channels.layers.items():
        inputs, outputs = _left(seen.inputs, gone), _left(seen.outputs, gone)
        if inputs is None and outputs is None:
            continue
        keep_channels(smaller.get_submodule(name), inputs, outputs)
        _, before_in, before_out = entries.get(name, (name, None, None))
        entries[name] = (
            name, before_in if inputs is None else len(inputs), before_out if outputs is None else len(outputs)
        )  # fmt: skip
    smaller.config = replace(model.config, pruned=tuple(entries.values()))
    try:
        count_macs(smaller, (4 * model.size_multiple, 4 * model.size_multiple))
    except RuntimeError as error:
        raise UsageError(f"a {type(model).__name__} with {model.config} computes with numbers of channels that do not "
                         f"follow from its layers, and cannot be pruned: {error}") from error  # fmt: skip
    return smaller


def _left(units: tuple[int, ...], gone: set[int]) -> Tensor | None:
    """Indices of the channels that stay; None if all do."""
    indices = [index for index, unit in enumerate(units) if unit not in gone]
    return None if len(indices) == len(units) else torch.tensor(indices)


def share_for_macs(build: Callable[[float], SegmentationModel], whole: int, macs: float) -> float:
    """Returns the largest `keep`, to half a percent, for which a network has at most the given share of the MACs.

    Args:
        build: `keep` -> the network.
        whole: MACs of the unpruned network, at `PAPER_SIZE`.
        macs: the share, in 0..1.
        macs: the share, in 0..1.

    Raises:
        UsageError: even the smallest network has more.
    """
    if macs == 1:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_SEARCH):
        middle = (low + high) / 2
        fits = count_macs(build(middle), PAPER_SIZE) <= macs * whole
        low, high = (middle, high) if fits else (low, middle)
    if low == 0:
        raise UsageError(f"--macs {macs:g} cannot be reached: too much is computed by channels that cannot be cut")
    return low
