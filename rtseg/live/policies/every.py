"""Every frame, in order, as fast as the machine allows: files, and whatever else is not live."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Every:
    """Loses no frame; fps count more than the age of a frame, so several are in flight at once.

    One for each thread of the engine is fastest, since no thread then waits for another; above four the memory is
    better spent otherwise.
    """

    drops: bool = False
    waiting: int = 2
    paced: bool = False
    most_in_flight: int = 4
