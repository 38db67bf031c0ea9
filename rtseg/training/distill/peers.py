"""Networks that learn alongside the run's network: the same architecture, with their own fresh weights."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from rtseg.models import SegmentationModel, build_like
from rtseg.models.base import Outputs
from rtseg.models.deploy import network_input
from rtseg.training.distill.base import Batch, Teaching
from rtseg.training.precision import keep_gradients_true


def fresh_peers(network: SegmentationModel, count: int) -> list[SegmentationModel]:
    """`count` networks like `network`; their weights depend on torch's seed, or are the pretrained ones it names."""
    peers = [build_like(network) for _ in range(count)]
    for peer in peers:
        keep_gradients_true(peer)
    return [peer.to(memory_format=torch.channels_last) for peer in peers]


class PeerTeaching(Teaching):
    """A method with peers, which are trained, averaged and saved with the run's network; only that one ships.

    Args:
        peers: from `fresh_peers`.
        compiled: whether to compile them with torch.compile, on the first batch.
    """

    def __init__(self, peers: list[SegmentationModel], compiled: bool) -> None:
        super().__init__()
        self.peers, self._compiled = nn.ModuleList(peers), compiled

    @cached_property
    def _forwards(self) -> list[Callable[[Tensor], Outputs]]:
        """Created on first use, after the trainer has copied the module."""
        forwards: list[Callable[[Tensor], Outputs]] = [peer.forward_train for peer in self.networks]
        return [torch.compile(forward) for forward in forwards] if self._compiled else forwards

    @property
    def networks(self) -> list[SegmentationModel]:
        """The peers."""
        return [peer for peer in self.peers if isinstance(peer, SegmentationModel)]

    def outputs(self, batch: Batch) -> list[Outputs]:
        """Each peer's outputs for the batch."""
        return [
            forward(network_input(peer, batch.images))
            for forward, peer in zip(self._forwards, self.networks, strict=True)
        ]
