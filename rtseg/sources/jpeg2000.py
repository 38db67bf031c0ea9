"""JPEG 2000 pictures that FFmpeg reads correctly and OpenCV does not: 10 and 12 bits, palettes, YCbCr.

The boxes of a .jp2 file: ISO/IEC 15444-1, annex I.
"""

from pathlib import Path

import numpy as np

from rtseg.core.errors import InputError
from rtseg.core.files import file_url

_FILE, _BARE = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
_KNOWN = {16: "sRGB", 17: "grey", 18: "sYCC"}  # codes of colour spaces
_KNOWN_ICC = (b"RGB ", b"GRAY")
_FULL = 2  # FFmpeg's code of the full colour range


def is_jpeg2000(data: bytes) -> bool:
    """Whether a file is a JPEG 2000 picture, from its first bytes."""
    return data.startswith((_FILE, _BARE))


def decode_jpeg2000(path: Path, data: bytes) -> np.ndarray | None:
    """uint8 BGR (H, W, 3); None if it is damaged. Raises InputError if its colours are not known."""
    import av
    import av.error

    _check_colours(path, data)
    try:
        with av.open(file_url(path), format="j2k_pipe") as container:
            frame = next(container.decode(video=0))
    except (av.error.FFmpegError, OSError, StopIteration, IndexError):
        return None
    if frame.format.name.startswith("yuv"):
        frame.color_range = _FULL  # sYCC is always full range
    return frame.to_ndarray(format="bgr24")


def _check_colours(path: Path, data: bytes) -> None:
    place = data.find(b"colr", 0, data.find(_BARE)) + 4
    if place < 4:
        return  # a bare code stream does not state its colours
    method = data[place]
    known = (
        int.from_bytes(data[place + 3 : place + 7], "big") in _KNOWN
        if method == 1
        else data[place + 19 : place + 23] in _KNOWN_ICC
    )
    if not known:
        raise InputError(f"{path} is a JPEG 2000 whose colours are neither RGB, grey nor YCbCr: convert it to PNG")
