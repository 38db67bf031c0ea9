"""Procedural street scenes: an endless seeded drive with exact labels in CamVid's 11 classes."""

from rtseg.vision.scenes.scene import StreetScene

__all__ = ["StreetScene"]
