"""The newest frame, alone: cameras and live streams."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Newest:
    """Drops what there is no time for; the age of a frame counts, so none waits behind another."""

    drops: bool = True
    waiting: int = 1
    paced: bool = False
    most_in_flight: int = 1
