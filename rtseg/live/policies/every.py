"""Every frame, in order, as fast as the machine allows: for files and any other source that is not live."""

from rtseg.live.policies.base import Policy


class Every(Policy):
    """Loses no frame. Fps matter more than the age of a frame, so several are in flight at once.

    One per engine thread is fastest, since then no thread waits for another; beyond four, the memory is better spent
    elsewhere.
    """

    drops = False
    waiting = 2
    paced = False
    most_in_flight = 4
