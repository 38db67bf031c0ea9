"""Whether a frame of a live source is late: held up on its way, for example after a network stall."""

_PATIENCE_S = 2.0
_DRIFT = 1e-3  # seconds per second; camera clocks drift by much less


class Lateness:
    """Compares when frames arrive with when their timestamps say that they were taken.

    Only the difference counts, relative to the least delay so far. That delay rises slowly, since the two clocks drift
    apart. If a stream stays late although its frames do not pile up, its way has become longer; after some seconds its
    frames are measured by the new delay, so that the picture never stays frozen.

    Args:
        most_s: how late a frame may be.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self.forget()

    def forget(self) -> None:
        """Starts again, since timestamps start elsewhere after a reconnection."""
        self._least_s: float | None = None  # least delay: arrival minus timestamp
        self._last_s = 0.0
        self._late_since_s: float | None = None

    def is_late(self, timestamp_s: float, now_s: float) -> bool:
        """Whether a frame that came at `now_s` should be dropped."""
        delay_s = now_s - timestamp_s
        if self._least_s is None:
            self._least_s = delay_s
        else:
            self._least_s = min(delay_s, self._least_s + _DRIFT * (now_s - self._last_s))
        self._last_s = now_s
        if delay_s - self._least_s <= self._most_s:
            self._late_since_s = None
            return False
        if self._late_since_s is None:
            self._late_since_s = now_s
        if now_s - self._late_since_s < _PATIENCE_S:
            return True
        self._least_s, self._late_since_s = delay_s, None
        return False
