"""Draws labelled frames for the loop: one overlay per network, with settings that may change while it runs."""

from collections.abc import Sequence

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.labels import LabelSet
from rtseg.live.pipeline import Result
from rtseg.pictures.overlay import Overlay, warm_up


class Painter:
    """The `draw` of a loop: builds an overlay for the classes of the network that made the labels.

    Attributes:
        opacity: 0 (picture only) to 1 (colours only).
        split: half picture, half colours.
        hud: write the HUD lines.
        notes: more lines, below the HUD.
        unsure: grey out pixels whose confidence is below this, 0 to 1; None: no pixels.
        show: names of the classes to colour; None: all.

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
        self._overlay = None  # rebuilt for the next picture

    def check(self, labels: LabelSet) -> None:
        """Checks the settings against a label set.

        Raises:
            UsageError: an unknown class, or an opacity or confidence that is not allowed.
        """
        self._overlay = self._overlay_for(labels, self._show)

    def prepare(self, labels: LabelSet) -> None:
        """Checks the settings as `check` does, and loads what drawing needs, so that the first picture is not slow."""
        self.check(labels)
        warm_up()

    def _overlay_for(self, labels: LabelSet, show: Sequence[str] | None) -> Overlay:
        return Overlay(labels, self.opacity, self.legend, show, unsure=self.unsure)

    def __call__(self, result: Result, hud: Sequence[str] = ()) -> np.ndarray:
        """Draws a labelled frame as a new picture, uint8 BGR (H, W, 3).

        After a change of network, frames of the old one may still come; it may not know every class of `show`.
        """
        overlay, labels = self._overlay, result.card.labels
        if overlay is None or overlay.labels != labels:
            known = None if self._show is None else [name for name in self._show if name in labels.names]
            self._overlay = overlay = self._overlay_for(labels, known)
        overlay.opacity, overlay.legend, overlay.split = self.opacity, self.legend, self.split
        lines = [*(hud if self.hud else ()), *self.notes]
        picture = self._arrays.take(result.frame.image.shape)
        return overlay.render(result.frame.image, result.labels, lines, picture, result.confidence)
