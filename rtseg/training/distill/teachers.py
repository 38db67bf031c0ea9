"""The networks that teach."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.models.deploy import network_input
from rtseg.training.origin import Origin, find_origin

Seen = tuple[Tensor, dict[str, Tensor]]
"""A teacher's logits, (N, C, h, w), and its features by name."""


def find_teachers(names: Sequence[str], labels: Sequence[str]) -> list[Origin]:
    """Finds trained networks that can teach.

    Args:
        names: as accepted by `find_origin`.
        labels: the classes to teach.

    Raises:
        UsageError: there is no such network, or it has other classes.
        WeightsError: a file is missing or damaged.
    """
    origins = [find_origin(name) for name in names]
    for origin in origins:
        if origin.labels.names != tuple(labels):
            raise UsageError(f"teacher {origin.name} knows the classes of {origin.labels.name}, "
                             f"not the {len(labels)} of the data set: {', '.join(labels)}")  # fmt: skip
    return origins


class Teachers:
    """Trained networks that see every batch, each with its own scaling of pictures.

    Args:
        networks: several form an ensemble.
        compiled: whether to compile them with torch.compile, on the first batch.
    """

    def __init__(self, networks: Sequence[SegmentationModel], compiled: bool = False) -> None:
        self.networks = tuple(network.eval().requires_grad_(False) for network in networks)
        self._compiled = compiled
        self._called: dict[torch.device, list[Callable[[Tensor], Seen]]] = {}

    def __deepcopy__(self, _: Any) -> Self:
        return self  # they never change: the averaged copy of a task can share them

    @torch.no_grad()
    def see(self, images: Tensor) -> list[Seen]:
        """BGR in 0..255 (N, H, W, 3) -> each network's outputs, on the pictures' device."""
        return [call(x) for call, x in zip(self._on(images.device), self._inputs(images), strict=True)]

    def feel(self, images: Tensor) -> list[Seen]:
        """Like `see`, with gradients with respect to the pictures, float32; never compiled."""
        self._on(images.device)
        return [network.logits_and_features(x) for network, x in zip(self.networks, self._inputs(images), strict=True)]

    def _inputs(self, images: Tensor) -> list[Tensor]:
        return [network_input(network, images) for network in self.networks]

    def _on(self, device: torch.device) -> list[Callable[[Tensor], Seen]]:
        if device not in self._called:
            there = [network.to(device).to(memory_format=torch.channels_last) for network in self.networks]
            calls: list[Callable[[Tensor], Seen]] = [network.logits_and_features for network in there]
            self._called[device] = [torch.compile(call) for call in calls] if self._compiled else calls
        return self._called[device]


def mean_probabilities(seen: Sequence[Seen], size: torch.Size, temperature: float = 1.0) -> Tensor:
    """The ensemble's mean of softened probabilities, float32 (N, C, h, w), at `size`, (h, w)."""
    total = torch.zeros((), device=seen[0][0].device)
    for logits, _ in seen:
        logits = logits.float()
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        total = total + (logits / temperature).softmax(1)
    return total / len(seen)
