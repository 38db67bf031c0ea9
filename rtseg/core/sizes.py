"""Picture sizes: always height first, written 'HxW'."""

import re
from math import sqrt
from numbers import Integral

from rtseg.core.errors import UsageError

Size = tuple[int, int]  # (height, width) in pixels

_LARGEST = 2.0  # most that a frame's height and width are enlarged for a network


def parse_size(text: str) -> Size:
    """'256x512' -> (256, 512); raises UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    if not match or "0" in match.groups():
        raise UsageError(f"size {text!r} is not HEIGHTxWIDTH in pixels, for example 256x512")
    return int(match[1]), int(match[2])


def as_size(size: object) -> Size:
    """'256x512' or (256, 512), of any kind of integers -> (256, 512); raises UsageError for anything else."""
    if isinstance(size, str):
        return parse_size(size)
    if isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, Integral) for side in size):
        height, width = int(size[0]), int(size[1])
        if height > 0 and width > 0:
            return height, width
    raise UsageError(f"size {size!r} is not (HEIGHT, WIDTH) in whole pixels, for example (256, 512) or '256x512'")


def format_size(size_hw: Size) -> str:
    """(256, 512) -> '256x512'."""
    return f"{size_hw[0]}x{size_hw[1]}"


def nearest_multiple(size_hw: Size, multiple: int) -> Size:
    """The nearest size whose height and width are multiples of `multiple`, at least one each; ties go up."""
    height, width = (max(1, int(side / multiple + 0.5)) * multiple for side in size_hw)
    return height, width


def network_size(frame_hw: Size, train_hw: Size, multiple: int) -> Size:
    """A network's input size for a frame: the frame's aspect ratio, with the pixel count that it was trained at.

    A network finds things at the scale that it learned, so smaller frames are enlarged too, but at most to twice their
    height and width: more shows no more detail. The result is rounded to the nearest multiple that the network takes.
    """
    scale = min(_LARGEST, sqrt(train_hw[0] * train_hw[1] / (frame_hw[0] * frame_hw[1])))
    return nearest_multiple(scaled(frame_hw, scale), multiple)


def same_pixels(frame_hw: Size, pixels_hw: Size) -> Size:
    """The size with the frame's aspect ratio and the pixel count of `pixels_hw`, rounded to whole sides."""
    return scaled(frame_hw, sqrt(pixels_hw[0] * pixels_hw[1] / (frame_hw[0] * frame_hw[1])))


def scaled(size_hw: Size, factor: float) -> Size:
    """Height and width times a factor, rounded to whole pixels, at least one."""
    return max(1, round(size_hw[0] * factor)), max(1, round(size_hw[1] * factor))


def check_multiple(size_hw: Size, multiple: int, model: str) -> Size:
    """Returns the size, or raises UsageError with the nearest allowed one."""
    if size_hw[0] % multiple or size_hw[1] % multiple or min(size_hw) < multiple:
        raise UsageError(
            f"size {format_size(size_hw)} does not fit {model}: height and width must be multiples of {multiple}; "
            f"the nearest is {format_size(nearest_multiple(size_hw, multiple))}"
        )
    return size_hw
