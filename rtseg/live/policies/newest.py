"""The newest frame, alone: cameras and live streams."""

from rtseg.live.policies.base import Policy


class Newest(Policy):
    """Drops what there is no time for; the age of a frame counts, so none waits behind another."""

    drops = True
    waiting = 1
    paced = False
    most_in_flight = 1
