"""Finds the input sizes that a graph takes by running it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.sizes import Size, format_size
from rtseg.importing.form import common_stride, no_stride
from rtseg.importing.original import Picture

MULTIPLES = (1, 2, 4, 8, 14, 16, 28, 32, 64, 128)
_LEAST = 128  # smallest side to try

Measure = Callable[[np.ndarray], Size]
"""A picture -> height and width of the graph's output for it; raises EngineError if it cannot run."""


@dataclass(frozen=True)
class Sizes:
    """The sizes that fit a graph: any multiple of `multiple`, or `fixed` alone."""

    multiple: int
    stride: int
    fixed: Size | None = None


def fixed_size(picture: Picture, wanted: Size | None) -> Size | None:
    """The only size that a graph declares; None if both sides are free.

    Raises:
        UsageError: `wanted` differs from it, or one side is free and `wanted` is None.
    """
    sides = (picture.height, picture.width)
    if sides == (None, None):
        return None
    shown = "x".join(str(side or "free") for side in sides)
    if wanted is not None and any(side not in (None, own) for side, own in zip(sides, wanted, strict=True)):
        raise UsageError(f"--size {format_size(wanted)} does not fit: the graph takes {shown} only")
    height, width = picture.height, picture.width
    if height is None or width is None:
        if wanted is None:
            raise UsageError(f"the graph takes pictures of {shown}, one side fixed: give the whole --size HEIGHTxWIDTH")
        return wanted
    return height, width


def find_sizes(picture: Picture, measure: Measure, wanted: Size | None) -> Sizes:
    """Runs the graph at multiples of 1, 2, 4, … until all sizes tried for one of them fit.

    Args:
        picture: the graph's declared input.
        measure: runs the graph.
        wanted: the size that the user gives; the only one if the graph declares free sizes but does not support them.

    Raises:
        UsageError: no size works, or the output is not an even fraction of the picture.
    """
    if (size := fixed_size(picture, wanted)) is not None:
        return _only(size, measure)
    first = ""
    for multiple in MULTIPLES:
        try:
            stride = common_stride([(size, measure(noise(size))) for size in _tried(multiple)])
        except EngineError as error:
            first = first or str(error)
            continue
        if stride:
            return Sizes(multiple, stride)
    if wanted is not None:
        return _only(wanted, measure)
    raise UsageError("the graph says that height and width are free, but does not give labels of every picture "
                     f"({first or 'what it gives does not follow the size of the picture'}): give the --size "
                     "HEIGHTxWIDTH that it was exported for")  # fmt: skip


def _only(size: Size, measure: Measure) -> Sizes:
    given = measure(noise(size))
    if (stride := common_stride([(size, given)])) is None:
        raise no_stride(size, given)
    return Sizes(1, stride, size)


def _tried(multiple: int) -> tuple[Size, ...]:
    """Three sizes whose sides are odd multiples of `multiple`, so that no larger multiple fits them."""
    small, other, large = (_odd_multiple(multiple, least) for least in (_LEAST, _LEAST + 2 * multiple, 2.3 * _LEAST))
    return (small, other), (other, small), (large, small)


def _odd_multiple(multiple: int, least: float) -> int:
    """The smallest odd multiple of `multiple` that is not below `least`."""
    return multiple * (ceil(least / multiple) // 2 * 2 + 1)


def noise(size_hw: Size) -> np.ndarray:
    """uint8 (H, W, 3) of random values."""
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
