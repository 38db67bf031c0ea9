"""Exact label upsampling: coarse logits to labels at any size without a full-size float array.

The result equals bilinear interpolation (`align_corners=False`, edges clamped) followed by argmax. A bilinear sample
is a weighted mean of the four corners of its cell. So if all four corners have the same best class, every pixel
between them has it too, and only the other cells, the borders, are interpolated.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.sizes import Size

_MAX_CLASSES = 256
_BANDS_PER_THREAD = 4  # borders are spread unevenly: a thread that ends early takes another band
_INLINE_PIXELS = 1 << 14  # below this, handing work to other threads costs more than it saves

_POOL = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="rtseg-upsample")  # starts threads only on first use


def upsample_labels(
    logits: np.ndarray, size_hw: Size, out: np.ndarray | None = None, *, threads: int | None = None
) -> np.ndarray:
    """float32 (C, h, w) -> uint8 (H, W): bilinear interpolation, then the best class, ties to the lowest.

    Any size, larger or smaller. May be called from several threads at once. Logits must be finite: a pixel that depends
    on a NaN or an infinity gets an arbitrary class in 0..C-1.

    Args:
        logits: class scores on the network's output grid; C is 1..256.
        size_hw: height and width of the label map.
        out: C-contiguous uint8 (H, W) to fill and return; a new array otherwise.
        threads: threads that may work at the same time, the caller's included; default: one per core.

    Raises:
        UsageError: wrong dtype, shape or size.
    """
    _check_logits(logits)
    height, width = _checked_size(size_hw)
    if out is None:
        out = np.empty((height, width), np.uint8)
    else:
        _check_out(out, (height, width))
    if threads is None:
        threads = os.cpu_count() or 1
    elif threads < 1:
        raise UsageError(f"upsampling with {threads} threads: give 1 or more")

    from rtseg.pictures._upsample_kernel import fill_rows  # loads numba, so only when needed

    logits = np.require(logits, requirements=("C", "A"))
    coarse_height, coarse_width = logits.shape[1:]
    rows, columns = _axis(coarse_height, height), _axis(coarse_width, width)
    if out.size < _INLINE_PIXELS:
        threads = 1
    in_bands(coarse_height, threads, lambda first, last: fill_rows(logits, *rows, *columns, first, last, out))
    return out


def in_bands(rows: int, threads: int, fill: Callable[[int, int], None]) -> None:
    """Calls `fill(first, last)` for bands that together cover 0..rows, in `threads` threads including this one."""
    bands = min(rows, _BANDS_PER_THREAD * threads if threads > 1 else 1)
    edges = [band * rows // bands for band in range(bands + 1)]
    ticket = count()  # next() is atomic

    def work() -> None:
        while (band := next(ticket)) < bands:
            fill(edges[band], edges[band + 1])

    helpers = [_POOL.submit(work) for _ in range(min(threads, bands) - 1)]
    try:
        work()  # could do everything alone, so a busy pool only costs time
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def warm_up() -> None:
    """Compiles the kernel or loads it from numba's cache: some seconds on the first run, later well below one."""
    upsample_labels(np.zeros((2, 2, 2), np.float32), (4, 4), threads=1)


def border_share(logits: np.ndarray, size_hw: Size) -> float:
    """Share, 0..1, of the cells (those with pixels in them) whose corners differ in class and are interpolated."""
    _check_logits(logits)
    height, width = _checked_size(size_hw)
    labels = logits.argmax(0)
    rows, columns = (
        np.flatnonzero(np.diff(_axis(coarse, full)[0]))
        for coarse, full in zip(labels.shape, (height, width), strict=True)
    )
    below, right = np.minimum(rows + 1, labels.shape[0] - 1), np.minimum(columns + 1, labels.shape[1] - 1)
    corners = np.stack([labels[np.ix_(y, x)] for y in (rows, below) for x in (columns, right)])
    return float((corners != corners[0]).any(0).mean())


@lru_cache(maxsize=64)
def _axis(coarse: int, full: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel of every cell, int64 (coarse + 1,), and each pixel's position in its cell, float32 (full,)."""
    cell, place = corners_of_axis(coarse, full)
    return np.searchsorted(cell, np.arange(coarse + 1)), place


@lru_cache(maxsize=64)
def corners_of_axis(coarse: int, full: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's cell, int64 (full,), between its coarse sample and the next, and its position there, float32."""
    place = np.maximum((np.arange(full) + 0.5) * coarse / full - 0.5, 0)
    cell = place.astype(np.int64)
    return cell, (place - cell).astype(np.float32)


def _check_logits(logits: np.ndarray) -> None:
    if logits.dtype != np.float32 or logits.ndim != 3 or 0 in logits.shape or logits.shape[0] > _MAX_CLASSES:
        raise UsageError(
            f"logits must be float32 (classes 1..{_MAX_CLASSES}, height, width), not {logits.dtype} {logits.shape}"
        )


def _checked_size(size_hw: Size) -> Size:
    height, width = size_hw
    if height < 1 or width < 1:
        raise UsageError(f"a label map of {height}x{width} cannot be made: height and width must be 1 or more")
    return height, width


def _check_out(out: np.ndarray, size_hw: Size) -> None:
    if not isinstance(out, np.ndarray):
        raise UsageError(f"out must be an array, writeable C-contiguous uint8 {size_hw}, not {type(out).__name__}")
    if out.dtype != np.uint8 or out.shape != size_hw or not out.flags.c_contiguous or not out.flags.writeable:
        raise UsageError(
            f"out must be writeable C-contiguous uint8 {size_hw}, not {out.dtype} {out.shape}"
            f"{'' if out.flags.c_contiguous else ', not contiguous'}{'' if out.flags.writeable else ', read-only'}"
        )
