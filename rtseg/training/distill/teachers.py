"""Networks that teach."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.models.deploy import normalise
from rtseg.training.origin import Origin, find_origin

Seen = tuple[Tensor, dict[str, Tensor]]
"""A teacher's logits, (N, C, h, w), and its features by name."""


def find_teachers(names: Sequence[str], labels: Sequence[str]) -> list[Origin]:
    """Finds trained networks that can teach.

    Args:
        names: as `find_origin` takes them.
        labels: the classes to teach.

    Raises:
        UsageError: no such network, or it knows other classes.
        WeightsError: a file is missing or damaged.
    """
    origins = [find_origin(name) for name in names]
    for origin in origins:
        if origin.labels.names != tuple(labels):
            raise UsageError(f"teacher {origin.name} knows the classes of {origin.labels.name}, "
                             f"not the {len(labels)} of the data set: {', '.join(labels)}")  # fmt: skip
    return origins


class Teachers:
    """Trained networks that look at every batch, each in its own scaling of pictures.

    Args:
        networks: several are an ensemble.
        compiled: whether they are fused with torch.compile, on the first batch.
    """

    def __init__(self, networks: Sequence[SegmentationModel], compiled: bool = False) -> None:
        self.networks = tuple(network.eval().requires_grad_(False) for network in networks)
        self._compiled = compiled
        self._called: dict[torch.device, list[Callable[[Tensor], Seen]]] = {}

    def __deepcopy__(self, _: Any) -> Self:
        return self  # they never change: the averaged copy of a task needs none of its own

    @torch.no_grad()
    def see(self, images: Tensor) -> list[Seen]:
        """uint8 BGR (N, H, W, 3) -> what each network says, on the pictures' device."""
        seen = []
        for network, call in zip(self.networks, self._on(images.device), strict=True):
            x = normalise(images, network.normalisation).contiguous(memory_format=torch.channels_last)
            seen.append(call(x))
        return seen

    def _on(self, device: torch.device) -> list[Callable[[Tensor], Seen]]:
        if device not in self._called:
            there = [network.to(device).to(memory_format=torch.channels_last) for network in self.networks]
            calls: list[Callable[[Tensor], Seen]] = [network.logits_and_features for network in there]
            self._called[device] = [torch.compile(call) for call in calls] if self._compiled else calls
        return self._called[device]
