"""Boundary F1: how well class outlines match, which the mean IoU hardly shows because it measures areas.

After Csurka et al. 2013 ("What is a good evaluation measure for semantic segmentation?"). The boundary of a class in a
picture consists of its pixels with a neighbour (left, right, above, below) of another label. Precision is the share of
the predicted boundary within the tolerance of the true one of the same class, recall the share of the true boundary
within the tolerance of the predicted one, and F1 their harmonic mean; boundary pixels are not matched one to one. A
class counts in every picture where the truth or the prediction has a boundary of it; if only one does, F1 is 0. Its
score is the mean over those pictures, and the overall score is the mean over the classes.

Unlabelled pixels are cut out of both truth and prediction, so a class that touches them has the same boundary there in
both.
"""

from functools import lru_cache
from math import floor, hypot
from typing import Any

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size
from rtseg.metrics.confusion import rounded, rounded_by_class

TOLERANCE = 0.0075
"""Maximum distance between matching boundaries, as a share of the picture's diagonal (Csurka 2013)."""


class BoundaryF1:
    """Boundary F1 of each class, averaged over pictures.

    Example:
        >>> score = BoundaryF1(CAMVID11)
        >>> score.update(predicted, truth)
        >>> score.mean
    """

    def __init__(self, labels: LabelSet, tolerance: float = TOLERANCE) -> None:
        """`tolerance` is a share of the picture's diagonal."""
        if not 0 <= tolerance <= 0.1:
            raise UsageError(f"a boundary tolerance of {tolerance:g} of the diagonal is not allowed: give 0 to 0.1")
        self.labels, self.tolerance = labels, tolerance
        self._sums = np.zeros(len(labels), np.float64)
        self._pictures = np.zeros(len(labels), np.int64)

    def update(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds one picture, both uint8 (H, W); raises UsageError if the shapes differ."""
        if predicted.shape != truth.shape:
            raise UsageError(f"predicted labels are {predicted.shape}, the truth is {truth.shape}: sizes must agree")
        from rtseg.metrics._boundary_kernel import count_hits  # imports numba, only when needed

        none = self.labels.ignore_index
        found = _edges(np.where(truth == none, truth, predicted), none)
        wanted = _edges(truth, none)
        offsets = _disc(truth.shape, self.tolerance)
        counts = np.zeros((4, 256), np.int64)
        count_hits(found, wanted, none, offsets, counts[0], counts[1])
        count_hits(wanted, found, none, offsets, counts[2], counts[3])
        predicted_edge, right, true_edge, met = counts[:, : len(self.labels)]
        occurs = (predicted_edge > 0) | (true_edge > 0)
        # harmonic mean of the precision right / predicted_edge and the recall met / true_edge, even if one is 0
        self._sums += 2 * right * met / np.maximum(1, right * true_edge + met * predicted_edge)
        self._pictures += occurs

    @property
    def by_class(self) -> np.ndarray:
        """float64 (C,) in 0..1; NaN for a class without a boundary in any picture."""
        unknown = np.full(len(self._sums), np.nan)
        mean: np.ndarray = np.divide(self._sums, self._pictures, out=unknown, where=self._pictures > 0)
        return mean

    @property
    def mean(self) -> float:
        """Mean over the classes that occur; NaN if none does."""
        return float(np.nanmean(self.by_class)) if self._pictures.any() else float("nan")

    def to_json(self) -> dict[str, Any]:
        """JSON values for reports; None for a class without a boundary."""
        return {
            "boundary_f1": rounded(self.mean),
            "boundary_f1_by_class": rounded_by_class(self.labels, self.by_class),
            "boundary_tolerance": self.tolerance,
        }


def _edges(labels: np.ndarray, none: int) -> np.ndarray:
    from rtseg.metrics._boundary_kernel import mark_edges

    edges = np.empty(labels.shape, np.uint8)
    mark_edges(np.ascontiguousarray(labels), none, edges)
    return edges


@lru_cache(maxsize=16)
def _disc(size_hw: Size, tolerance: float) -> np.ndarray:
    """int64 (N, 2): the (y, x) offsets within the tolerance, nearest first."""
    radius = tolerance * hypot(*size_hw)
    reach = np.arange(-floor(radius), floor(radius) + 1)
    y, x = (axis.ravel() for axis in np.meshgrid(reach, reach, indexing="ij"))
    distance = y**2 + x**2
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] <= radius**2]
    return np.stack([y[order], x[order]], axis=1).astype(np.int64)
