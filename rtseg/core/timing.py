"""Durations, collected in seconds and reported as percentiles; outliers are never removed."""

from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np


class Durations:
    """A list of durations with percentiles; with `window`, only of the newest ones."""

    def __init__(self, window: int | None = None) -> None:
        self._seconds = array("d")  # a quarter of a list's memory, since a camera may run for weeks
        self._window = window
        self._oldest = 0

    def add(self, seconds: float) -> None:
        if self._window is None or len(self._seconds) < self._window:
            self._seconds.append(seconds)
        else:
            self._seconds[self._oldest] = seconds
            self._oldest = (self._oldest + 1) % self._window

    def __len__(self) -> int:
        return len(self._seconds)

    @contextmanager
    def measure(self) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.add(perf_counter() - start)

    def percentile_ms(self, percent: float) -> float:
        """The given percentile in milliseconds; NaN if nothing was measured."""
        return float(np.percentile(self._seconds.tolist(), percent)) * 1e3 if self._seconds else float("nan")

    def summary_ms(self) -> dict[str, float | int]:
        """{"p50", "p90", "p99", "mean", "n"}; times in milliseconds."""
        if not self._seconds:
            return {"n": 0}
        seconds = self._seconds.tolist()  # a copy, since another thread may keep adding
        p50, p90, p99 = (round(float(value) * 1e3, 3) for value in np.percentile(seconds, (50, 90, 99)))
        return {"p50": p50, "p90": p90, "p99": p99, "mean": round(float(np.mean(seconds)) * 1e3, 3), "n": len(seconds)}


class RateMeter:
    """Frames per second over the newest `window` ticks."""

    def __init__(self, window: int = 30) -> None:
        self._ticks: deque[float] = deque(maxlen=window + 1)

    def tick(self) -> None:
        self._ticks.append(perf_counter())

    @property
    def fps(self) -> float:
        """Frames per second; n ticks span n - 1 intervals. 0 until two ticks were seen."""
        if len(self._ticks) < 2:
            return 0.0
        span = self._ticks[-1] - self._ticks[0]
        return (len(self._ticks) - 1) / span if span > 0 else 0.0
