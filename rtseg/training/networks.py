"""The networks of a run: the one that learns, with the weights that it starts from, and those that teach it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rtseg.core.errors import UsageError
from rtseg.core.sizes import check_multiple
from rtseg.models import SegmentationModel, build_model
from rtseg.training.config import TrainConfig
from rtseg.training.distill.base import MethodConfig
from rtseg.training.distill.lessons import Lessons
from rtseg.training.distill.teachers import Teachers
from rtseg.training.optimise import check_trunk
from rtseg.training.origin import Origin
from rtseg.training.precision import keep_gradients_true
from rtseg.training.start import Start, architecture, start_from


@dataclass(frozen=True)
class Networks:
    """What `build_networks` builds.

    Attributes:
        student: the network that learns.
        start: what it has taken from another one.
        teaching: the terms of the loss that ways of teaching give.
    """

    student: SegmentationModel
    start: Start | None
    teaching: Lessons


def build_networks(
    config: TrainConfig, classes: int, start: Origin | None, teachers: Sequence[Origin],
    methods: dict[str, MethodConfig],
) -> Networks:  # fmt: skip
    """Builds them complete; fresh weights follow from torch's seed.

    Args:
        config: of the run.
        classes: of the data set.
        start: what the student starts from.
        teachers: who teaches.
        methods: how; none leaves the labels alone to teach.

    Raises:
        UsageError: a field or a size does not fit a network, or networks do not fit one another.
        WeightsError: a file is missing or damaged.
    """
    student = build_model(config.model, {**architecture(config, start), "classes": classes})
    check_multiple(config.crop_hw, student.size_multiple, config.model)
    check_trunk(config, student)
    weigh_exits(config, student)
    taken = None if start is None or config.from_scratch else start_from(student, start)
    keep_gradients_true(student)
    student = student.to(memory_format=torch.channels_last)
    networks = [origin.network() for origin in teachers]
    for network, origin in zip(networks, teachers, strict=True):
        check_multiple(config.crop_hw, network.size_multiple, f"the teacher {origin.name}")
    return Networks(student, taken, Lessons(methods, student, Teachers(networks, config.compile)))


def weigh_exits(config: TrainConfig, student: SegmentationModel) -> None:
    """Gives the early exits the weights of the configuration, where it has any; raises UsageError for another number.

    The loss is then BranchyNet's: the sum over the exits n of w_n times the cross-entropy of exit n, with w = 1 for the
    end of the network.
    """
    weights, exits = config.exit_weights, len(student.early)
    if not weights:
        return
    if len(weights) != exits:
        told = f"{config.model} has {exits} early exits here" + ("" if exits else ": --set exits=1 gives it one")
        raise UsageError(f"exit_weights are {len(weights)} numbers but {told}")
    student.auxiliary_weights = (*weights, *student.auxiliary_weights[exits:])
