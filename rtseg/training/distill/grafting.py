"""Networks adopt each other's filters (filter grafting: Meng 2020, arXiv 2001.05868). No teacher, and no term.

After each epoch every network sets W_i <- a W_i + (1 - a) W_j, with W_j from the one before it in a ring, layer by
layer, with a = A/π arctan(c (H(W_i) - H(W_j))) + 1/2: a layer with more information contributes more. H is the entropy,
in nats, of a layer's weights in ten bins between their smallest and largest; A = 0.4 and c = 500 are the paper's. Batch
norms and biases follow the convolution before them. The run keeps the first network; its peers have the same
architecture and start from fresh weights, even if the first has --init. In the paper, networks also differ in the order
of pictures and the learning rate; here all see the same batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, pi
from typing import ClassVar

import torch
from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import Batch, MethodConfig, Teaching, Terms
from rtseg.training.distill.peers import PeerTeaching, fresh_peers

_BINS = 10


@dataclass(frozen=True)
class GraftingConfig(MethodConfig):
    """`peers` is the number of additional networks; `range` and `slope` are the paper's A and c."""

    peers: int = 1
    range: float = 0.4
    slope: float = 500.0
    compile: bool = False

    has_teacher: ClassVar[bool] = False
    allowed: ClassVar = {"peers": (1, 8), "range": (0, 1), "slope": (0, 1e6)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return GraftingTeaching(fresh_peers(student, self.peers), self)


class GraftingTeaching(PeerTeaching):
    """The losses of the peers; grafts weights after each epoch."""

    def __init__(self, peers: list[SegmentationModel], config: GraftingConfig) -> None:
        super().__init__(peers, config.compile)
        self.config = config

    def forward(self, batch: Batch) -> Terms:
        own = torch.stack([batch.label_loss(outputs) for outputs in self.outputs(batch)]).sum()
        return Terms(torch.zeros_like(own), own)

    @torch.no_grad()
    def after_epoch(self, network: SegmentationModel) -> None:
        states = [peer.state_dict() for peer in (network, *self.networks)]
        grafted = [graft(state, states[index - 1], self.config) for index, state in enumerate(states)]
        for state, new in zip(states, grafted, strict=True):
            for name, value in new.items():
                state[name].copy_(value)


def graft(own: dict[str, Tensor], other: dict[str, Tensor], config: GraftingConfig) -> dict[str, Tensor]:
    """The mixed weights of two networks of the same architecture, by state-dict key, without counters."""
    share, mixed = 0.5, {}
    for name, value in own.items():
        if value.ndim > 1:
            gap = entropy(value) - entropy(other[name])
            share = config.range / pi * atan(config.slope * gap) + 0.5
        if value.is_floating_point():
            mixed[name] = share * value + (1 - share) * other[name]
    return mixed


def entropy(weights: Tensor) -> float:
    """Entropy of the weights' histogram, in nats; 0 if they are all equal."""
    counts = torch.histc(weights.float(), _BINS)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log()).sum())
