"""Scores a segmenter on labelled pictures."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet
from rtseg.core.metrics import ConfusionMatrix
from rtseg.runtime.segmenter import Segmenter


class LabelledPicture(Protocol):
    """`image` uint8 BGR (H, W, 3) with the truth `labels` uint8 (H, W)."""

    @property
    def image(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...


def evaluate(segmenter: Segmenter, samples: Iterable[LabelledPicture], labels: LabelSet) -> ConfusionMatrix:
    """Counts every pixel of `samples` against its truth, at the picture's own size.

    Raises:
        UsageError: the network's classes are not those of the truth, `labels`.
    """
    if segmenter.labels.names != labels.names:
        raise UsageError(
            f"{segmenter.card.name} has the classes of {segmenter.labels.name}, the data those of {labels.name}: "
            "they must be the same"
        )
    matrix = ConfusionMatrix(labels)
    for sample in samples:
        matrix.update(segmenter(sample.image), sample.labels)
    return matrix
