"""Networks with different fresh weights teach one another (deep mutual learning: Zhang 2018, arXiv 1706.00384). No
teacher.

Every network i of `peers` + 1 minimises its loss from the labels plus the mean over the others j of T² KL(p_j ‖ p_i),
with p_j detached, the mean over labelled pixels. The run keeps the first network; its peers have the same architecture
and start from fresh weights, even if the first has --init. All step at once on the same batch, while the paper
alternates; its T is 1. Each peer costs as much as training a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import Batch, MethodConfig, Teaching, Terms
from rtseg.training.distill.logits import divergence
from rtseg.training.distill.peers import PeerTeaching, fresh_peers


@dataclass(frozen=True)
class DmlConfig(MethodConfig):
    """`peers` is the number of additional networks; `temperature` softens the probabilities."""

    peers: int = 1
    temperature: float = 2.0
    compile: bool = False

    has_teacher: ClassVar[bool] = False
    allowed: ClassVar = {"peers": (1, 8), "temperature": (0.1, 100)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return DmlTeaching(fresh_peers(student, self.peers), self.compile, self.temperature)


class DmlTeaching(PeerTeaching):
    """The first network's term and the losses of its peers."""

    def __init__(self, peers: list[SegmentationModel], compiled: bool, temperature: float) -> None:
        super().__init__(peers, compiled)
        self.temperature = temperature

    def forward(self, batch: Batch) -> Terms:
        outputs = [batch.student, *self.outputs(batch)]
        agree = mutual([found.logits for found in outputs], batch.labelled, self.temperature)
        own = [batch.label_loss(peer) + term for peer, term in zip(outputs[1:], agree[1:], strict=True)]
        return Terms(agree[0], torch.stack(own).sum())


def mutual(logits: list[Tensor], counted: Tensor, temperature: float) -> list[Tensor]:
    """For each network, the mean of its divergences from the others.

    Args:
        logits: each network's, (N, C, h, w).
        counted: bool (N, h, w).
        temperature: T.
    """
    said = [(found.detach().float() / temperature).softmax(1) for found in logits]
    return [
        torch.stack([divergence(p, own, counted, temperature) for j, p in enumerate(said) if j != i]).mean()
        for i, own in enumerate(logits)
    ]
