"""Whether a frame of a live source is old news: held up somewhere on its way, as after a stall of the network."""

_PATIENCE_S = 2.0
_DRIFT = 1e-3  # seconds a second: clocks of cameras are wrong by much less


class Lateness:
    """Compares when frames come with when their timestamps say that they were taken.

    Only the difference counts, against the least delay so far; it is let rise slowly, since two clocks drift apart.
    A stream that stays late although its frames do not pile up has got longer on its way: after some seconds that is
    what its frames are measured by, so that a picture never stands still for good.

    Args:
        most_s: how late a frame may be.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self.forget()

    def forget(self) -> None:
        """Starts again: with another connection the timestamps start elsewhere."""
        self._least_s: float | None = None  # what comes by the shortest way: arrival minus timestamp
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
