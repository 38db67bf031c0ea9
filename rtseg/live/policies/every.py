"""Every frame, in order, as fast as the machine allows: files, and whatever else is not live."""

from rtseg.live.policies.base import Policy


class Every(Policy):
    """Loses no frame; fps count more than the age of a frame, so several are in flight at once.

    One for each thread of the engine is fastest, since no thread then waits for another; above four the memory is
    better spent otherwise.
    """

    drops = False
    waiting = 2
    paced = False
    most_in_flight = 4
