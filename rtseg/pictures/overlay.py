"""Draws labels over a picture: colours, legend, and lines of text (HUD)."""

from collections.abc import Sequence
from functools import lru_cache
from numbers import Real

import cv2
import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.pictures.lettering import legend_names

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (255, 255, 255)
_UNSURE, _GREY = 255, 128  # an id without a class, and its colour


class Overlay:
    """Draws labels over pictures; settings may be changed between frames.

    Attributes:
        opacity: 0 (picture only) to 1 (colours only).
        legend: draw a panel with the classes' colours, if it fits.
        split: the left half shows the plain picture, the right half the bare colours.
        unsure: pixels with a lower confidence, 0..1, are grey; None: none.

    Example:
        >>> overlay = Overlay(CAMVID11, opacity=0.4, show=["car", "pedestrian"])
        >>> picture = overlay.render(frame.image, labels, hud=["27.3 fps"])
    """

    def __init__(
        self,
        labels: LabelSet,
        opacity: float = 0.5,
        legend: bool = True,
        show: Sequence[str] | None = None,
        split: bool = False,
        unsure: float | None = None,
    ) -> None:
        """Sets up for a label set.

        Args:
            labels: names and colours of the classes.
            opacity: 0..1.
            legend: draw a panel with the classes' colours, if it fits.
            show: names of the classes to colour; None: all. Elsewhere the picture is unchanged.
            split: draw the split view.
            unsure: pixels with a lower confidence, 0..1, are grey; None: none.

        Raises:
            UsageError: an unknown class, or an opacity or confidence outside 0..1.
        """
        if unsure is not None and not (isinstance(unsure, Real) and 0 <= unsure <= 1):
            raise UsageError(f"a confidence of {unsure!r} is not allowed: give 0 (nothing is grey) to 1")
        if not isinstance(legend, int | np.bool_):
            raise UsageError(f"legend={legend!r} is not allowed: give True or False")
        self.unsure = unsure
        self.labels = labels
        self.legend = legend
        self.split = split
        self._shown = tuple(sorted(set(labels.indices(show)))) if show is not None else tuple(range(len(labels)))
        self.opacity = opacity

    @property
    def opacity(self) -> float:
        return self._opacity

    @opacity.setter
    def opacity(self, value: float) -> None:
        given: object = value
        if not (isinstance(given, Real) and 0 <= float(given) <= 1):
            raise UsageError(f"opacity {value!r} is not allowed: give 0 (picture only) to 1 (colours only)")
        self._opacity = float(given)

    def render(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        hud: Sequence[str] | None = None,
        out: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draws one picture.

        Args:
            image: uint8 BGR (H, W, 3); not changed.
            labels: uint8 (H, W); ids without a class are not coloured.
            hud: lines of text for the upper left corner; those that do not fit are left out.
            out: C-contiguous uint8 (H, W, 3) to draw into and return; may be `image` itself. Default: a new array.
            confidence: uint8 (H, W), 0 to 255, or float32 (H, W), 0 to 1; without it nothing is grey.

        Returns:
            uint8 BGR (H, W, 3).

        Raises:
            UsageError: shapes or types do not fit.
        """
        _check(image, labels, out)
        greyed = confidence is not None and self.unsure is not None
        if confidence is not None and self.unsure is not None:
            labels = _with_unsure(labels, confidence, self.unsure)
        if self.split:
            middle = image.shape[1] // 2
            left = image[:, :middle].copy()  # before anything is drawn, because `out` may be `image`
            picture = _mix(image, labels, _mixture(self.labels, 1.0, self._shown, greyed), out)
            picture[:, :middle] = left
            cv2.line(picture, (middle, 0), (middle, picture.shape[0] - 1), _WHITE, max(1, picture.shape[1] // 512))
        else:
            picture = _mix(image, labels, _mixture(self.labels, self._opacity, self._shown, greyed), out)
        if self.legend:
            _paste_legend(picture, self.labels, self._shown, greyed)
        if hud:
            _write_lines(picture, hud)
        return picture


def overlay(
    image: Frame | np.ndarray,
    labels: np.ndarray,
    label_set: LabelSet,
    opacity: float = 0.5,
    show: str | Sequence[str] | None = None,
    legend: bool = False,
    confidence: np.ndarray | None = None,
    unsure: float = 0.5,
) -> np.ndarray:
    """Draws `labels` over a frame or uint8 BGR picture (H, W, 3) in the set's colours; returns a new picture.

    Args:
        image: the picture to draw over.
        labels: uint8 (H, W).
        label_set: names and colours of the classes, such as `segmenter.labels`.
        opacity: 0 (picture only) to 1 (colours only).
        show: names of the classes to colour, as a list or 'car,pedestrian'; None: all.
        legend: draw a panel with the classes' colours, if it fits.
        confidence: how sure the network is, float32 (H, W), 0 to 1, or uint8, 0 to 255.
        unsure: pixels with a lower confidence than this, 0 to 1, are grey.

    Raises:
        UsageError: shapes or types do not fit, no label set, an unknown class, or an opacity or confidence outside
            0..1.
    """
    if not isinstance(label_set, LabelSet):
        raise UsageError(f"overlay needs a label set, such as segmenter.labels, not {type(label_set).__name__}")
    names = label_set.split_names(show) if isinstance(show, str) else show
    picture = image.image if isinstance(image, Frame) else image
    drawn = Overlay(label_set, opacity, legend, names, unsure=unsure)
    return drawn.render(picture, labels, confidence=confidence)


def warm_up() -> None:
    """Compiles the kernel or loads it from numba's cache, and loads the font, which takes as long as a whole frame."""
    from rtseg.pictures import _overlay_kernel  # noqa: F401

    cv2.getTextSize("fps", _FONT, 1.0, 1)


@lru_cache(maxsize=16)
def _mixture(labels: LabelSet, opacity: float, shown: tuple[int, ...], greyed: bool) -> tuple[np.ndarray, np.ndarray]:
    """What `mix` needs, by label: the picture's weight, uint16 (256,), and what to add, uint16 (256, 3 BLOCK).

    Both are in 256ths. One half is added, so that truncation rounds. Labels that are not shown leave the picture as is.
    """
    from rtseg.pictures._overlay_kernel import BLOCK

    weights, added = np.full(256, 256, np.uint16), np.full((256, 3), 128, np.uint16)
    coloured = {index: labels.palette_bgr[index] for index in shown}
    if greyed:
        coloured[_UNSURE] = np.full(3, _GREY)
    opaque = round(opacity * 256)
    for index, colour in coloured.items():
        weights[index] = 256 - opaque
        added[index] = colour.astype(np.uint16) * opaque + 128
    return weights, np.tile(added, BLOCK)


def _check(image: np.ndarray, labels: np.ndarray, out: np.ndarray | None) -> None:
    for what, given in (("image", image), ("labels", labels)):
        if not isinstance(given, np.ndarray):
            raise UsageError(f"{what} must be an array, uint8, not {type(given).__name__}")
    if labels.dtype != np.uint8 or labels.ndim != 2 or labels.size == 0:
        raise UsageError(f"labels are {labels.dtype} {labels.shape}: want uint8 (H, W)")
    shape = (*labels.shape, 3)
    for what, array in (("image", image), ("out", out)):
        if array is not None and (array.dtype != np.uint8 or array.shape != shape):
            raise UsageError(f"{what} is {array.dtype} {array.shape}, labels are {labels.shape}: want uint8 {shape}")
    if out is not None and not (out.flags.c_contiguous and out.flags.writeable):
        raise UsageError("out must be C-contiguous and writeable: pass a whole array of your own")


def _with_unsure(labels: np.ndarray, confidence: np.ndarray, below: float) -> np.ndarray:
    """Labels, uint8 (H, W), with `_UNSURE` where the confidence is too low."""
    given = np.asarray(confidence)  # so that the error message can describe anything
    if given.dtype not in (np.uint8, np.float32) or given.shape != labels.shape:
        raise UsageError(f"confidence is {given.dtype} {given.shape}: want uint8 (0 to 255) or float32 "
                         f"(0 to 1) {labels.shape}")  # fmt: skip
    low = confidence < (below * 255 if confidence.dtype == np.uint8 else below)
    marked: np.ndarray = cv2.max(labels, np.multiply(low, _UNSURE, dtype=np.uint8))
    return marked


def _mix(
    image: np.ndarray, labels: np.ndarray, mixture: tuple[np.ndarray, np.ndarray], out: np.ndarray | None
) -> np.ndarray:
    from rtseg.pictures._overlay_kernel import mix  # loads numba, so only when needed

    if out is None:
        out = np.empty(image.shape, np.uint8)
    mix(np.ascontiguousarray(image), np.ascontiguousarray(labels), *mixture, out)
    return out


def _text_scale(height: int) -> float:
    return min(2.0, max(0.4, height / 1100))


def _write_lines(picture: np.ndarray, lines: Sequence[str]) -> None:
    """White text on a darkened panel, readable on any background; lines that do not fit are left out."""
    height, width = picture.shape[:2]
    text = _text_panel(tuple(lines), _text_scale(height), height, width)
    panel = picture[: text.shape[0], : text.shape[1]]
    panel >>= 1
    np.maximum(panel, text, out=panel)


@lru_cache(maxsize=4)  # lines change only a few times a second, and drawing text is the slowest part
def _text_panel(lines: tuple[str, ...], scale: float, height: int, width: int) -> np.ndarray:
    """White lines on black, uint8 (h, w, 3), at most `height` x `width`."""
    step, margin, thickness = round(38 * scale), round(10 * scale), max(1, round(1.6 * scale))
    lines = lines[: max(0, (height - margin) // step)]
    text_width = max((cv2.getTextSize(line, _FONT, scale, thickness)[0][0] for line in lines), default=0)
    panel = np.zeros((step * len(lines) + margin if lines else 0, min(width, text_width + 2 * margin), 3), np.uint8)
    for number, line in enumerate(lines, start=1):
        cv2.putText(panel, line, (margin, number * step - margin // 2), _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
    return panel


def legend(labels: LabelSet, scale: float = 0.5) -> np.ndarray:
    """A swatch and a name for each class, one below the other, as uint8 BGR (h, w, 3); must not be changed."""
    return _legend(labels, tuple(range(len(labels))), scale)


def _paste_legend(picture: np.ndarray, labels: LabelSet, shown: tuple[int, ...], greyed: bool) -> None:
    height, width = picture.shape[:2]
    panel = _legend(labels, shown, _text_scale(height), greyed)
    if panel.shape[0] > height or panel.shape[1] > width // 2:
        return
    corner = picture[: panel.shape[0], width - panel.shape[1] :]
    corner >>= 2
    corner += panel  # the panel has three quarters of its brightness: see `_legend`


@lru_cache(maxsize=16)
def _legend(labels: LabelSet, shown: tuple[int, ...], scale: float, greyed: bool = False) -> np.ndarray:
    """A swatch and a name for each class, uint8 BGR (h, w, 3), at three quarters of the brightness."""
    step, margin, thickness = round(34 * scale), round(10 * scale), max(1, round(1.4 * scale))
    written = legend_names(labels)
    names = [written[index] for index in shown]
    colours = [tuple(int(value) for value in labels.palette_bgr[index]) for index in shown]
    if greyed:
        names.append("not sure")
        colours.append((_GREY, _GREY, _GREY))
    text_width = max((cv2.getTextSize(name, _FONT, 0.9 * scale, thickness)[0][0] for name in names), default=0)
    panel = np.zeros((step * len(names) + margin, 3 * margin + step + text_width, 3), np.uint8)
    for row, (colour, name) in enumerate(zip(colours, names, strict=True)):
        top = row * step + margin
        cv2.rectangle(panel, (margin, top), (margin + step, top + step - margin), colour, cv2.FILLED)
        place = (2 * margin + step, top + step - margin - round(2 * scale))
        cv2.putText(panel, name, place, _FONT, 0.9 * scale, _WHITE, thickness, cv2.LINE_AA)
    return panel - (panel >> 2)
