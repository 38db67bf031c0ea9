"""The contract of all policies."""

from rtseg.live.rung import Rung


class Policy:
    """Which frame is labelled next, and how many may be in flight at once.

    A subclass sets the first four attributes; the rest is for policies with a deadline.

    Attributes:
        drops: a waiting frame is replaced by a newer one; otherwise the source waits and no frame is lost.
        waiting: how many frames may wait for inference, and how many labelled ones for the caller.
        paced: a source that is not live is read at its own frame rate, like a camera.
        most_in_flight: how many frames may be in flight at once; more means more fps, but each takes longer.
        deadline_s: seconds from a frame's capture until its picture is shown; None: no deadline.
        rungs: what a deadline chooses from, fastest first; empty until its labeller is prepared.
    """

    drops: bool
    waiting: int
    paced: bool
    most_in_flight: int
    deadline_s: float | None = None
    rungs: tuple[Rung, ...] = ()

    def expect(self, fps: float | None) -> None:
        """Sets the expected frames per second, None if unknown; called before the first frame."""

    def expired(self, captured_at: float, now: float) -> bool:
        """Whether a frame is too late to be drawn and shown."""
        return False

    def shown(self, labelled_at: float, now: float) -> None:
        """Called after each picture shown under a deadline, with the time when its labels were handed over."""
