"""Sparse training: for a part of a run, single weights are held at zero. One file a method; no torch here.

Zeros here and there make no network faster: the kernels of CPUs and GPUs multiply by them as by any other number. What
makes it faster is `rtseg prune`, which cuts whole channels.
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
        epoch: with which it begins, counted from 0.
        sparsity: share of the weights of each masked layer that it holds at zero.
        rate: factor on the learning rate.
        cycle: whether the schedule of the learning rate begins again, and with it the running mean of the weights.
        rewinds: whether all weights go back to what they were after the first epoch.
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
"""Name -> the phases of a run with so many epochs, a sparsity (None for the method's own) and so many rounds."""


def phases_of(config: TrainConfig) -> tuple[Phase, ...]:
    """The phases of a run; none where it is not sparse.

    Raises:
        UsageError: no such method, or the epochs are too few for it.
    """
    if config.sparse is None:
        return ()
    return METHODS.get(config.sparse)(config.epochs, config.sparsity, config.sparse_rounds)


def phase_at(phases: tuple[Phase, ...], epoch: float) -> int:
    """Which phase an epoch, counted from 0, is in; 0 where there are none."""
    return max(0, sum(phase.epoch <= epoch for phase in phases) - 1)


def check_epochs(method: str, epochs: int, least: int) -> None:
    """Raises UsageError for a run that is too short to have all of its phases."""
    if epochs < least:
        raise UsageError(f"--epochs {epochs} is too short for --sparse {method}: it needs at least {least}")
