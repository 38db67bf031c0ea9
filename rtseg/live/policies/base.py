"""The contract of all policies."""

from typing import Protocol


class Policy(Protocol):
    """Which frame is labelled next, and how many may be in flight at once.

    A deadline will be a policy too: `Newest`, and one more method that the pipeline calls before each frame with the
    time that is left, and whose answer (network, size, precision, exit) an anytime labeller carries out.

    Attributes:
        drops: a frame that waits makes room for a newer one; else the source waits, and no frame is lost.
        waiting: how many frames may wait for inference, and how many labelled ones for whoever takes them.
        most_in_flight: how many frames may be in flight at once; more give more fps, and each takes longer.
    """

    @property
    def drops(self) -> bool: ...

    @property
    def waiting(self) -> int: ...

    @property
    def most_in_flight(self) -> int: ...
