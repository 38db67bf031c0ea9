"""Procedural street scenes: an endless seeded drive with exact labels in CamVid's 11 classes."""

from rtseg.scenes.scene import StreetScene

__all__ = ["StreetScene"]
