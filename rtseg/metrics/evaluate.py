"""Scores a network on labelled pictures."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from rtseg.core.card import Card
from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet
from rtseg.metrics.calibration import Calibration
from rtseg.metrics.confusion import ConfusionMatrix, Metric


class LabelledPicture(Protocol):
    """`image` uint8 BGR (H, W, 3) with the truth `labels` uint8 (H, W)."""

    @property
    def image(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...


class Scored(Protocol):
    """Something to score: a `Segmenter`, or anything else that returns a picture's labels at its own size."""

    @property
    def card(self) -> Card: ...

    @property
    def labels(self) -> LabelSet: ...

    def __call__(self, frame: np.ndarray, /) -> np.ndarray: ...


def evaluate(
    segmenter: Scored,
    samples: Iterable[LabelledPicture],
    labels: LabelSet,
    *metrics: Metric,
    calibrations: Sequence[Calibration] = (),
    with_logits: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
) -> ConfusionMatrix:
    """Counts every pixel of `samples` against its truth, at the picture's own size; `metrics` see the same labels.

    Args:
        segmenter: labels the pictures.
        samples: the pictures and their truth.
        labels: the classes of the truth.
        metrics: further metrics to update.
        calibrations: compare confidence with the truth, using the logits of `with_logits`.
        with_logits: called instead of the segmenter; returns a picture's labels and its logits, float32 (C, h, w).

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
        if with_logits is None:
            predicted = segmenter(sample.image)
        else:
            predicted, logits = with_logits(sample.image)
            for calibration in calibrations:
                calibration.update(logits, predicted, sample.labels)
        for metric in (matrix, *metrics):
            metric.update(predicted, sample.labels)
    return matrix
