"""The base of all exports: pictures with shapes, in drawing order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rtseg.core import files
from rtseg.core.errors import InputError
from rtseg.core.sizes import Size
from rtseg.datasets.imports.pictures import PictureFinder
from rtseg.datasets.masks import Colour
from rtseg.pictures.outlines import fill

Cover = Callable[[Size], np.ndarray]
"""(height, width) of the picture -> the pixels that a shape covers, bool (H, W)."""

IGNORED = "__ignore__"  # LabelMe's name for pixels to leave out of training
_ROUND = 64  # corners of a circle
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""Errors raised by reading a malformed entry: null for a list, text for a number."""


@dataclass(frozen=True)
class Shape:
    """One annotation: the name of its class, and the pixels it covers."""

    label: str
    cover: Cover


@dataclass(frozen=True)
class Annotated:
    """One picture.

    Attributes:
        where: the file with its shapes, for error messages.
        name: the picture's path in the new folder, without suffix: 'drive/0001', 'train/0001'.
        picture: its file, or its bytes if the export contains them.
        shapes: in drawing order: later ones cover earlier ones.
        size_hw: the size according to the export; None if it does not say.
    """

    where: str
    name: str
    picture: Path | bytes
    shapes: tuple[Shape, ...]
    size_hw: Size | None = None


class Export(ABC):
    """An annotation tool's export. It can be iterated more than once.

    Attributes:
        classes: name -> colour, or None if the export has none; in its order. Empty if it does not list them.
        notes: messages for the user; complete after one iteration.
    """

    about: ClassVar[str]

    def __init__(self, source: Path, finder: PictureFinder) -> None:
        self.source, self.finder = source, finder
        self.classes: dict[str, Colour | None] = {}
        self.notes: list[str] = []
        if not source.exists():
            raise InputError(f"no such file or folder: {source}; it should be {self.about}")
        if source.suffix.lower() == ".zip":
            raise InputError(f"{source} is packed: unpack it, and name {self.about}")

    @abstractmethod
    def __iter__(self) -> Iterator[Annotated]:
        """The pictures; raises InputError if a file or a shape cannot be used.

        A malformed entry may also raise one of `DAMAGE`: use `pictures` to avoid that.
        """

    def pictures(self) -> Iterator[Annotated]:
        """The pictures; raises InputError for anything wrong with the export."""
        try:
            yield from self
        except DAMAGE as error:
            raise damaged(self.source, self.about, error) from error

    def only_file(self, pattern: str) -> Path:
        """The source, or the only file in it that matches; raises InputError if there is none, or several."""
        if self.source.is_file():
            return self.source
        found = sorted(self.source.glob(pattern))
        if len(found) != 1:
            said = f"holds {len(found)} files {pattern}" if found else f"holds no {pattern}"
            raise InputError(f"{self.source} {said}: name {self.about}")
        return found[0]


def damaged(source: Path, about: str, error: Exception) -> InputError:
    """The error for an export that is not in the tool's format."""
    return InputError(f"{source} has an entry that cannot be read ({error!r}): export it again; it should be {about}")


def read_json(path: Path, what: str) -> Any:
    """Reads JSON; raises InputError if the file cannot be read or is not JSON."""
    try:
        return files.read_json(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}; it should be {what}") from error


def polygon(points: Any, where: str) -> Cover:
    """[[x, y], …] in pixels; raises InputError for fewer than three points or malformed ones."""
    try:
        ring = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        ring = np.empty(0)
    if ring.ndim != 2 or ring.shape[1:] != (2,) or not np.isfinite(ring).all():
        raise InputError(f"{where} has a polygon that is not a list of points (x, y): export it again")
    if len(ring) < 3:
        raise InputError(f"{where} has a polygon of {len(ring)} points: remove it, or give it three or more")
    return lambda size_hw: fill([ring], size_hw)


def box(left: float, top: float, right: float, bottom: float, where: str, degrees: float = 0.0) -> Cover:
    """A rectangle, rotated clockwise about its centre."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    return polygon(turned(corners, (left + right) / 2, (top + bottom) / 2, degrees), where)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, where: str, degrees: float = 0.0) -> Cover:
    """An ellipse about (x, y), rotated clockwise."""
    angles = np.arange(_ROUND) * (2 * np.pi / _ROUND)
    ring = np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], 1)
    return polygon(turned(ring, x, y, degrees), where)


def turned(points: np.ndarray, x: float, y: float, degrees: float) -> np.ndarray:
    """Points (n, 2) rotated clockwise, as seen on a screen, about (x, y)."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    moved: np.ndarray = (points - [x, y]) @ np.array([[cosine, sine], [-sine, cosine]]) + [x, y]
    return moved


def pasted(mask: np.ndarray, left: int, top: int, where: str) -> Cover:
    """A mask, bool (h, w), whose upper left pixel is at (left, top) of the picture."""

    def cover(size_hw: Size) -> np.ndarray:
        height, width = mask.shape
        if left < 0 or top < 0 or top + height > size_hw[0] or left + width > size_hw[1]:
            raise InputError(f"{where} has a mask of {height}x{width} at ({left}, {top}), which lies outside the "
                             f"picture of {size_hw[0]}x{size_hw[1]}: export it again")  # fmt: skip
        whole = np.zeros(size_hw, bool)
        whole[top : top + height, left : left + width] = mask
        return whole

    return cover


def from_runs(runs: np.ndarray, size_hw: Size, where: str, *, columns: bool = False) -> np.ndarray:
    """Run lengths, starting with pixels outside the mask -> bool (h, w); along rows, or down `columns`."""
    height, width = size_hw
    if (runs < 0).any() or runs.sum() != height * width:
        raise InputError(f"{where} has a mask whose runs add up to {int(runs.sum())} pixels, not to the "
                         f"{height * width} of {height}x{width}: export it again")  # fmt: skip
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T if columns else flat.reshape(height, width)


def refused(where: str, kind: str) -> InputError:
    """The error for a shape that covers no pixels."""
    return InputError(f"{where} has a shape of the kind {kind!r}, which covers no area: remove it, or draw a polygon")
