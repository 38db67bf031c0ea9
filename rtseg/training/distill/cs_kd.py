"""Makes pixels of a class agree across pictures (class-wise self-knowledge distillation: Yun 2020, arXiv 2003.13964).
No teacher.

T² KL(p(x'; detached) ‖ p(x)), with p = softmax(z / T): x is a labelled pixel, and x' the mean logits of its class in
the next picture of the batch, in place of the paper's second picture of the class. The term is the mean over the pixels
whose class occurs in that picture. A batch of one picture is compared with itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rtseg.models import SegmentationModel
from rtseg.training.distill.base import Batch, MethodConfig, Teaching
from rtseg.training.distill.logits import divergence
from rtseg.training.distill.pairs import class_means, class_members


@dataclass(frozen=True)
class CsKdConfig(MethodConfig):
    """`temperature` softens the probabilities (4 in the paper)."""

    temperature: float = 2.0

    has_teacher: ClassVar[bool] = False
    allowed: ClassVar = {"temperature": (0.1, 100)}

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return CsKdTeaching(self.temperature)


class CsKdTeaching(Teaching):
    """The loss term."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, batch: Batch) -> Tensor:
        logits, truth = batch.student.logits.float(), batch.truth
        classes = logits.shape[1]
        means, count = (x.roll(1, 0) for x in class_means(logits.detach(), truth, classes))
        probabilities = (means / self.temperature).softmax(2)  # (N, class of the pixel, classes)
        members = class_members(truth, classes)
        taught = (probabilities.transpose(1, 2) @ members.flatten(2)).reshape(logits.shape)
        met = (members * (count > 0)[..., None, None]).sum(1) > 0
        return divergence(taught, logits, met, self.temperature)
