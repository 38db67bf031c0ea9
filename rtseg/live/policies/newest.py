"""Only the newest frame: for cameras and live streams."""

from rtseg.live.policies.base import Policy


class Newest(Policy):
    """Drops frames that there is no time for. The age of a frame matters, so none waits behind another."""

    drops = True
    waiting = 1
    paced = False
    most_in_flight = 1
