"""Draws labelled frames for the loop: one overlay for the network's classes, settings that may change on the way."""

from collections.abc import Sequence

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.labels import LabelSet
from rtseg.live.pipeline import Result
from rtseg.pictures.overlay import Overlay, warm_up


class Painter:
    """The loop's `draw`: builds an overlay for the classes of the network that made the labels.

    Attributes:
        opacity: 0 (picture only) to 1 (colours only).
        split: half picture, half colours.
        hud: write the HUD lines.
        notes: further lines below the HUD.
        unsure: where the network is less sure than this, 0 to 1, the picture is grey; None: nowhere.
        show: names of the classes to colour; None for all.

    Example:
        >>> Loop(source, segmenter, draw=Painter(opacity=0.4)).run()
    """

    def __init__(
        self,
        *,
        opacity: float = 0.5,
        legend: bool = True,
        show: Sequence[str] | None = None,
        hud: bool = True,
        unsure: float | None = None,
    ) -> None:
        self.opacity = opacity
        self.legend = legend
        self.split = False
        self.hud = hud
        self.unsure = unsure
        self.notes: list[str] = []
        self._show = show
        self._overlay: Overlay | None = None
        self._arrays = ArrayPool()

    @property
    def show(self) -> Sequence[str] | None:
        return self._show

    @show.setter
    def show(self, names: Sequence[str] | None) -> None:
        self._show = names
        self._overlay = None  # the next picture makes a new one

    def check(self, labels: LabelSet) -> None:
        """Checks the settings against a label set.

        Raises:
            UsageError: an unknown class, or an opacity or confidence that is not allowed.
        """
        self._overlay = self._overlay_for(labels, self._show)

    def prepare(self, labels: LabelSet) -> None:
        """Checks the settings as `check` does, and loads what drawing needs, so that the first picture is not late."""
        self.check(labels)
        warm_up()

    def _overlay_for(self, labels: LabelSet, show: Sequence[str] | None) -> Overlay:
        return Overlay(labels, self.opacity, self.legend, show, unsure=self.unsure)

    def __call__(self, result: Result, hud: Sequence[str] = ()) -> np.ndarray:
        """The picture of a labelled frame: uint8 BGR (H, W, 3), which nobody else holds.

        Where the network is changed, frames of the one before may come that do not know every class of `show`.
        """
        overlay, labels = self._overlay, result.card.labels
        if overlay is None or overlay.labels != labels:
            known = None if self._show is None else [name for name in self._show if name in labels.names]
            self._overlay = overlay = self._overlay_for(labels, known)
        overlay.opacity, overlay.legend, overlay.split = self.opacity, self.legend, self.split
        lines = [*(hud if self.hud else ()), *self.notes]
        picture = self._arrays.take(result.frame.image.shape)
        return overlay.render(result.frame.image, result.labels, lines, picture, result.confidence)
