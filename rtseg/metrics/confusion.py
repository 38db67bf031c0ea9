"""Segmentation metrics from a confusion matrix (numpy only, so that every engine can be scored)."""

from typing import Any, Protocol

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet


class Metric(Protocol):
    """Something that compares predicted labels with the truth, picture by picture."""

    def update(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds one picture: both uint8 (H, W)."""


class ConfusionMatrix:
    """Counts pixels by true and predicted class.

    Args:
        labels: the classes.
        counts: int64 (C, C), [truth, predicted], to start from; zeros by default.
        frames: number of pictures in `counts`.

    Example:
        >>> matrix = ConfusionMatrix(CAMVID11)
        >>> matrix.update(predicted, truth)
        >>> matrix.miou
    """

    def __init__(self, labels: LabelSet, counts: np.ndarray | None = None, frames: int = 0) -> None:
        self.labels = labels
        self.counts = np.zeros((len(labels), len(labels)), np.int64) if counts is None else counts
        self.frames = frames

    def update(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds one frame: both uint8 (H, W); pixels with the ignore index as their truth are left out.

        Raises:
            UsageError: the shapes differ, or either holds an id outside the label set.
        """
        if predicted.shape != truth.shape:
            raise UsageError(f"predicted labels are {predicted.shape}, the truth is {truth.shape}: sizes must agree")
        classes = len(self.labels)
        known = truth != self.labels.ignore_index
        true_ids, predicted_ids = truth[known].astype(np.int64), predicted[known].astype(np.int64)
        for what, ids in (("truth", true_ids), ("predicted labels", predicted_ids)):
            if ids.size and ids.max() >= classes:
                raise UsageError(
                    f"{what} hold id {ids.max()}, but {self.labels.name} has classes 0..{classes - 1} "
                    f"and ignores {self.labels.ignore_index}"
                )
        self.counts += np.bincount(true_ids * classes + predicted_ids, minlength=classes**2).reshape(classes, classes)
        self.frames += 1

    @property
    def iou(self) -> np.ndarray:
        """float64 (C,) in 0..1: intersection over union; NaN for a class absent from truth and prediction."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        iou: np.ndarray = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
        return iou

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur; NaN if there are none."""
        iou = self.iou
        return float(np.nanmean(iou)) if not np.isnan(iou).all() else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    def to_json(self) -> dict[str, Any]:
        """JSON values for cards and reports; the IoU of a class that does not occur is None."""
        return {
            "miou": rounded(self.miou),
            "pixel_accuracy": rounded(self.pixel_accuracy),
            "iou": rounded_by_class(self.labels, self.iou),
            "frames": self.frames,
        }


def rounded(value: float) -> float | None:
    """A share as reports show it; None for NaN, which JSON lacks."""
    return None if np.isnan(value) else round(float(value), 4)


def rounded_by_class(labels: LabelSet, values: np.ndarray) -> dict[str, float | None]:
    """Class name -> its share."""
    return {name: rounded(value) for name, value in zip(labels.names, values, strict=True)}
