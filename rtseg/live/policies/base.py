"""The contract of all policies."""

from rtseg.live.rung import Rung


class Policy:
    """Which frame is labelled next, and how many may be in flight at once.

    A subclass sets the first four attributes; the rest is for those that have a deadline to keep.

    Attributes:
        drops: a frame that waits makes room for a newer one; else the source waits, and no frame is lost.
        waiting: how many frames may wait for inference, and how many labelled ones for whoever takes them.
        paced: what is not live is read at its own rate, as a camera would give it.
        most_in_flight: how many frames may be in flight at once; more give more fps, and each takes longer.
        deadline_s: seconds from a frame's capture until its picture is to be shown; None: there is no such limit.
        rungs: what labels are chosen from under a deadline, fastest first; none until its labeller is prepared.
    """

    drops: bool
    waiting: int
    paced: bool
    most_in_flight: int
    deadline_s: float | None = None
    rungs: tuple[Rung, ...] = ()

    def expect(self, fps: float | None) -> None:
        """How many frames a second are to come, where that is known; called before the first does."""

    def expired(self, captured_at: float, now: float) -> bool:
        """Whether a frame is late before it is drawn, so that it is not shown."""
        return False

    def shown(self, labelled_at: float, now: float) -> None:
        """Told of each picture that was shown under a deadline, and when its labels had been handed over."""
