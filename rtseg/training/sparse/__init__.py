"""Sparse training: holds single weights at zero for part of a run. One file per method; no torch here.

Scattered zeros make no network faster: the kernels of CPUs and GPUs multiply by them as by any other number. To make it
faster, cut whole channels with `rtseg prune`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rtseg.core.errors import UsageError
from rtseg.core.registry import Registry
from rtseg.training.config import TrainConfig

__all__ = ["METHODS", "Phase", "phase_at", "phases_of"]


@dataclass(frozen=True)
class Phase:
    """A part of a sparse run.

    Attributes:
        epoch: its first epoch, counted from 0.
        sparsity: share of the weights of each masked layer to hold at zero.
        rate: factor on the learning rate.
        cycle: whether the learning-rate schedule restarts, and with it the running mean of the weights.
        rewinds: whether all weights return to their values after the first epoch.
    """

    epoch: int
    sparsity: float
    rate: float = 1.0
    cycle: bool = False
    rewinds: bool = False


METHODS: Registry[Callable[[int, float | None, int], tuple[Phase, ...]]] = Registry(
    "way of sparse training",
    {
        "dsd": "rtseg.training.sparse.dsd:dsd",
        "lottery": "rtseg.training.sparse.lottery:lottery",
        "magnitude": "rtseg.training.sparse.magnitude:magnitude",
    },
)
"""Name -> function of epochs, sparsity (None for the method's own) and rounds that returns the phases of a run."""


def phases_of(config: TrainConfig) -> tuple[Phase, ...]:
    """The phases of a run; none if it is not sparse.

    Raises:
        UsageError: there is no such method, or the epochs are too few for it.
    """
    if config.sparse is None:
        return ()
    return METHODS.get(config.sparse)(config.epochs, config.sparsity, config.sparse_rounds)


def phase_at(phases: tuple[Phase, ...], epoch: float) -> int:
    """Index of the phase of an epoch, counted from 0; 0 if there are no phases."""
    return max(0, sum(phase.epoch <= epoch for phase in phases) - 1)


def check_epochs(method: str, epochs: int, least: int) -> None:
    """Raises UsageError for a run too short for all of its phases."""
    if epochs < least:
        raise UsageError(f"--epochs {epochs} is too short for --sparse {method}: it needs at least {least}")
