"""All teaching methods of a run, built from `--teaching`, and the sum of their terms."""

from typing import Any

import torch
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.training.config import TrainConfig
from rtseg.training.distill import METHODS
from rtseg.training.distill.base import Batch, Made, MethodConfig, Teaching, Terms
from rtseg.training.distill.spec import parse_teaching
from rtseg.training.distill.teachers import Teachers


def methods_of(config: TrainConfig) -> dict[str, MethodConfig]:
    """Name -> config of a run's teaching methods; none if there is no teacher and no method is requested.

    Raises:
        UsageError: a method, field or value is not allowed, or teachers are missing or of no use.
    """
    if not config.teacher and config.teaching == TrainConfig.teaching:
        return {}
    specs = parse_teaching(config.teaching)
    methods = {spec.method: METHODS.get(spec.method).of(config, spec.fields, spec.method) for spec in specs}
    taught = [name for name, method in methods.items() if method.has_teacher]
    if taught and not config.teacher:
        raise UsageError(f"--teaching {taught[0]} needs a network that teaches: give --teacher NAME, or a method "
                         "without one (--teaching list names them)")  # fmt: skip
    if config.teacher and not taught:
        raise UsageError(f"--teaching {config.teaching} has no use for a teacher: leave --teacher out, or add a method "
                         f"that learns from it, as in --teaching logits,{config.teaching}")  # fmt: skip
    return methods


class Lessons(nn.Module):
    """The teaching part of the loss.

    Args:
        methods: name -> config.
        student: the network that learns.
        teachers: see every batch. They are not submodules, so they are not trained, averaged or saved.
    """

    def __init__(self, methods: dict[str, MethodConfig], student: SegmentationModel, teachers: Teachers) -> None:
        super().__init__()
        self.teachers, self.configs = teachers, methods
        self.values: dict[str, Tensor] = {}
        for name, method in methods.items():
            self.add_module(name, method.build(student, teachers.networks))
        self.register_load_state_dict_pre_hook(_take_old_names)  # type: ignore[no-untyped-call]

    def _built(self) -> list[tuple[str, Teaching]]:
        return [(name, module) for name, module in self.named_children() if isinstance(module, Teaching)]

    def make(self, images: Tensor) -> Made | None:
        """See `Teaching.make`: the pictures of the first method that makes some."""
        made = [teaching.make(images, self.teachers) for _, teaching in self._built()]
        return next((found for found in made if found is not None), None)

    def forward(self, batch: Batch, weight: float) -> Tensor:
        """Sums each method's term times `weight` and its own weight, and the losses of the methods' own networks.

        `values` then holds each method's term, without weights.
        """
        total, self.values = torch.zeros((), device=batch.images.device), {}
        for name, teaching in self._built():
            config = self.configs[name]
            if batch.progress >= config.until:
                for parameter in teaching.parameters():  # DDP expects a gradient for each
                    total = total + 0 * parameter.sum()
                continue
            given = teaching(batch)
            term, own = given if isinstance(given, Terms) else (given, None)
            self.values[name] = term.detach()
            total = total + weight * config.weight * term
            total = total if own is None else total + own
        return total

    def after_epoch(self, network: SegmentationModel, progress: float) -> None:
        """See `Teaching.after_epoch`; `progress` is that of the finished epoch."""
        for name, teaching in self._built():
            if progress < self.configs[name].until:
                teaching.after_epoch(network)


def _take_old_names(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Reads checkpoints of runs with one method from before keys began with its name."""
    for key in [key for key in state if key.startswith(f"{prefix}adapters.")]:
        state[f"{prefix}features.{key.removeprefix(prefix)}"] = state.pop(key)
