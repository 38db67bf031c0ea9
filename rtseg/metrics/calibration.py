"""Calibration: whether a network that is 80 % confident is right 80 % of the time, and the temperature to achieve it.

Guo et al. 2017 ("On Calibration of Modern Neural Networks"), over pixels. The expected calibration error (ECE) sorts
the labelled pixels into 15 bins of equal width by their confidence and is sum_b n_b / n |accuracy_b - confidence_b|.
The temperature T minimises the mean negative log-likelihood of softmax(z / T), and changes no label.
"""

from math import log, sqrt
from typing import Any

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet
from rtseg.metrics.confusion import rounded
from rtseg.pictures.confidence import confidence
from rtseg.pictures.upsample import corners_of_axis

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # temperatures
_PIXELS = 2048  # per picture, on a grid, to fit a temperature on
_STEPS = 40  # bisection steps; the last is far below the four digits shown


class Calibration:
    """The expected calibration error at one temperature.

    Example:
        >>> calibration = Calibration(CAMVID11, card.temperature)
        >>> calibration.update(segmenter.logits(image), predicted, truth)
        >>> calibration.ece
    """

    def __init__(self, labels: LabelSet, temperature: float = 1.0) -> None:
        self.temperature = temperature
        self._none = labels.ignore_index
        self._sums = np.zeros((3, BINS), np.float64)  # pixels, correct ones, and the sum of their confidences

    def update(self, logits: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds a picture: its logits, float32 (C, h, w), the labels from them and the truth, both uint8 (H, W)."""
        height, width = truth.shape
        self.add(confidence(logits, (height, width), self.temperature), predicted, truth)

    def add(self, sure: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds a picture whose confidence, float32 (H, W), is known."""
        known = truth != self._none
        sure, right = sure[known], (predicted == truth)[known]
        bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
        for row, weights in enumerate((None, right, sure)):
            self._sums[row] += np.bincount(bins, weights, BINS)

    @property
    def ece(self) -> float:
        """0..1; NaN if no pixel is labelled."""
        pixels, right, sure = self._sums
        return float(np.abs(right - sure).sum() / pixels.sum()) if pixels.any() else float("nan")

    def to_json(self) -> dict[str, Any]:
        """JSON values for reports."""
        return {"ece": rounded(self.ece), "temperature": round(self.temperature, 4)}


class Temperature:
    """Fits the temperature on some pixels of every picture, on a grid.

    Example:
        >>> temperature = Temperature(CAMVID11)
        >>> for sample in data:
        ...     temperature.update(segmenter.logits(sample.image), sample.labels)
        >>> temperature.fit()
    """

    def __init__(self, labels: LabelSet) -> None:
        self._none = labels.ignore_index
        self._logits: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []

    def update(self, logits: np.ndarray, truth: np.ndarray) -> None:
        """Adds a picture: its logits, float32 (C, h, w), and the truth, uint8 (H, W)."""
        step = max(1, int(sqrt(truth.size / _PIXELS)))
        truth_of_grid = truth[step // 2 :: step, step // 2 :: step]
        values = _interpolated(logits, truth.shape, step)
        known = truth_of_grid != self._none
        self._logits.append(values[:, known].T)
        self._truth.append(truth_of_grid[known])

    def fit(self) -> float:
        """The best temperature.

        Raises:
            UsageError: no pixel is labelled, or no temperature in 0.05..20 is best, for example if all pixels are
                right.
        """
        if not any(truth.size for truth in self._truth):
            raise UsageError("no pixel of the split is labelled: a temperature needs another one")
        logits, truth = np.concatenate(self._logits), np.concatenate(self._truth)
        logits = logits - logits.max(1, keepdims=True)
        cold, hot = log(COLDEST), log(HOTTEST)
        if not _slope(logits, truth, COLDEST) > 0 > _slope(logits, truth, HOTTEST):
            raise UsageError(f"no temperature from {COLDEST:g} to {HOTTEST:g} fits the split: it is too small, or the "
                             "network is right, or wrong, everywhere")  # fmt: skip
        for _ in range(_STEPS):  # the likelihood is concave in 1 / T, so its slope has one zero
            middle = (cold + hot) / 2
            cold, hot = (middle, hot) if _slope(logits, truth, np.exp(middle)) > 0 else (cold, middle)
        return float(np.exp((cold + hot) / 2))


def _slope(logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Mean over pixels of sum_c p_c z_c - z_truth, p = softmax(z / T); above 0 if a higher temperature is better."""
    powers = np.exp(logits / np.float32(temperature))
    expected = (powers * logits).sum(1) / powers.sum(1)
    return float((expected - logits[np.arange(len(truth)), truth]).mean(dtype=np.float64))


def _interpolated(logits: np.ndarray, size_hw: tuple[int, ...], step: int) -> np.ndarray:
    """float32 (C, h, w) -> (C, n, m): bilinear, at every `step`-th row and column of the full size."""
    axes = (corners_of_axis(coarse, full) for coarse, full in zip(logits.shape[1:], size_hw, strict=True))
    (top, down), (left, across) = ((cell[step // 2 :: step], place[step // 2 :: step]) for cell, place in axes)
    bottom, right = np.minimum(top + 1, logits.shape[1] - 1), np.minimum(left + 1, logits.shape[2] - 1)
    rows = logits[:, top] + down[:, None] * (logits[:, bottom] - logits[:, top])
    values: np.ndarray = rows[..., left] + across * (rows[..., right] - rows[..., left])
    return values
