"""The networks of a run: the student, with its initial weights, and its teachers."""

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
    """The result of `build_networks`.

    Attributes:
        student: the network to train.
        start: what it has taken from another network.
        teaching: the loss terms of the teaching methods.
    """

    student: SegmentationModel
    start: Start | None
    teaching: Lessons


def build_networks(
    config: TrainConfig, classes: int, start: Origin | None, teachers: Sequence[Origin],
    methods: dict[str, MethodConfig],
) -> Networks:  # fmt: skip
    """Builds all networks of a run; fresh weights depend on torch's seed.

    Args:
        config: of the run.
        classes: of the data set.
        start: the network that the student starts from.
        teachers: the networks that teach.
        methods: the teaching methods; if empty, only the labels teach.

    Raises:
        UsageError: a field or a size does not fit a network, or the networks do not fit one another.
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
    """Sets the early exits' weights from the configuration, if it has any; raises UsageError if their number is wrong.

    The loss is then BranchyNet's: the sum over the exits n of w_n times the cross-entropy of exit n, with w = 1 for the
    network's end.
    """
    weights, exits = config.exit_weights, len(student.early)
    if not weights:
        return
    if len(weights) != exits:
        told = f"{config.model} has {exits} early exits here" + ("" if exits else ": --set exits=1 gives it one")
        raise UsageError(f"exit_weights are {len(weights)} numbers but {told}")
    student.auxiliary_weights = (*weights, *student.auxiliary_weights[exits:])
