"""The contract of all policies."""

from typing import Protocol


class Policy(Protocol):
    """Which frame is labelled next, and how many may be in flight at once.

    Attributes:
        drops: a frame that waits makes room for a newer one; else the source waits, and no frame is lost.
        waiting: how many frames may wait for inference, and how many labelled ones for whoever takes them.
        paced: what is not live is read at its own rate, as a camera would give it.
        most_in_flight: how many frames may be in flight at once; more give more fps, and each takes longer.
    """

    @property
    def drops(self) -> bool: ...

    @property
    def waiting(self) -> int: ...

    @property
    def paced(self) -> bool: ...

    @property
    def most_in_flight(self) -> int: ...
