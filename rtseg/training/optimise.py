"""Parameter groups, optimizer and learning-rate schedule."""

from collections.abc import Sequence
from math import cos, pi
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.training.config import TrainConfig
from rtseg.training.sparse import Phase, phase_at, phases_of

_WARM_UP = 0.08  # of a cycle


def check_trunk(config: TrainConfig, model: SegmentationModel) -> None:
    """Raises UsageError if a trunk factor is set and the network has no trunk."""
    if config.trunk_factor != 1 and not model.trunk():
        raise UsageError(f"{config.model} has no trunk that could learn more slowly: leave --trunk-factor "
                         f"{config.trunk_factor:g} out, or train a network that stands on an encoder")  # fmt: skip


def parameter_groups(config: TrainConfig, trained: nn.Module, model: SegmentationModel) -> list[dict[str, Any]]:
    """The optimizer's groups: parameters with one axis (batch norm, PReLU slopes, biases) have no weight decay.

    If the trunk learns more slowly, each group is split into trunk and rest (SwiftNet, Orsic 2019).

    Args:
        trained: all modules to train, `model` included.
    """
    slower = [*model.trunk(), *model.trunk_copies()] if config.trunk_factor != 1 else []
    trunk = {id(p) for module in slower for p in module.parameters()}
    groups: list[dict[str, Any]] = []
    for factor, in_trunk in ((1.0, False), (config.trunk_factor, True)):
        ours = [p for p in trained.parameters() if (id(p) in trunk) == in_trunk]
        for decay, chosen in (
            (config.weight_decay * factor, [p for p in ours if p.ndim > 1]),
            (0.0, [p for p in ours if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": config.lr * factor, "weight_decay": decay})
    return groups


def make_optimizer(config: TrainConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW or SGD, over groups with their own learning rates."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, config.lr)


def make_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """The learning-rate schedule over `steps` optimizer steps; every group has its own peak."""
    if phases := phases_of(config):
        return LambdaLR(optimizer, lambda step: phased_rate(config, phases, config.epochs * step / steps))
    if config.schedule == "poly":
        return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps) ** 0.9)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, steps, pct_start=_WARM_UP, cycle_momentum=False, final_div_factor=1e3)


def phased_rate(config: TrainConfig, phases: Sequence[Phase], epoch: float) -> float:
    """The factor on the peak learning rate at a point of a sparse run, in which some phases begin a new cycle.

    One-cycle matches `make_schedule` over the share x of the cycle: up from 1/25 until x is 0.08, then down to 1/25000,
    both along half a cosine.
    """
    starts = [phase for phase in phases if phase.cycle]
    ends = [*(phase.epoch for phase in starts[1:]), config.epochs]
    number = phase_at(tuple(starts), epoch)
    begin, end, rate = starts[number].epoch, ends[number], starts[number].rate
    x = min(1.0, (epoch - begin) / (end - begin))
    if config.schedule == "poly":
        return float(rate * (1 - x) ** 0.9)
    low, high, x = (1 / 25, 1.0, x / _WARM_UP) if x < _WARM_UP else (1.0, 1 / 25e3, (x - _WARM_UP) / (1 - _WARM_UP))
    return rate * (high + (low - high) * (1 + cos(pi * x)) / 2)
