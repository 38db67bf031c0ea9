"""The compiled part of `rtseg.pictures.upsample`; importing it compiles or loads the kernel and needs numba.

One explicit signature per function, so that everything is compiled at import (and cached on disk) and never
while frames flow. No `parallel=True`: numba's fallback threading layer ends the process when two threads
enter it. The kernel only releases the GIL, and the caller divides the rows among threads.
"""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_LOGITS = types.Array(types.float32, 3, "C", readonly=True)
_CORNERS = types.float32[:, ::1]
_FLOATS = types.float32[::1]
_INDICES = types.int64[::1]
_BYTES = types.uint8[::1]
_LABELS = types.uint8[:, ::1]
_I = types.int64

_EXACT = {"contract"}  # allows only fused multiply-add, so the order of operations stays


@compiled(types.void(_LOGITS, _I, _FLOATS, _BYTES), fastmath=_EXACT)
def _argmax_row(logits: np.ndarray, y: int, best: np.ndarray, labels: np.ndarray) -> None:
    """Best class of every coarse pixel of row y -> labels (w,); best is scratch. Vectorised along x."""
    for x in range(labels.size):
        best[x] = logits[0, y, x]
        labels[x] = 0
    for c in range(1, logits.shape[0]):
        for x in range(labels.size):
            value = logits[c, y, x]
            wins = value > best[x]
            best[x] = value if wins else best[x]
            labels[x] = np.uint8(c) if wins else labels[x]


@compiled(types.void(_LABELS, _I, _I, _I, _I, types.uint8), fastmath=_EXACT)
def _fill(out: np.ndarray, top: int, bottom: int, left: int, right: int, label: int) -> None:
    for y in range(top, bottom):
        for x in range(left, right):
            out[y, x] = label


@compiled(types.int64(_LOGITS, _I, _I, _I, _I, _CORNERS, _FLOATS, _BYTES), fastmath=_EXACT)
def _candidates(
    logits: np.ndarray, y0: int, y1: int, x0: int, x1: int, corners: np.ndarray, peaks: np.ndarray, kept: np.ndarray
) -> int:
    """Finds the classes that may win somewhere in a cell -> how many; kept gets their ids, corners (C, 4) their logits.

    A class whose highest corner is below another's lowest corner is below it in the whole cell.
    """
    floor = np.float32(-np.inf)
    for c in range(logits.shape[0]):
        a, b, d, e = logits[c, y0, x0], logits[c, y0, x1], logits[c, y1, x0], logits[c, y1, x1]
        corners[c, 0], corners[c, 1], corners[c, 2], corners[c, 3] = a, b, d, e
        upper_high, upper_low = (a, b) if a > b else (b, a)
        lower_high, lower_low = (d, e) if d > e else (e, d)
        peaks[c] = upper_high if upper_high > lower_high else lower_high
        low = upper_low if upper_low < lower_low else lower_low
        floor = low if low > floor else floor
    count = 0
    for c in range(logits.shape[0]):
        if peaks[c] >= floor:
            kept[count] = c
            for i in range(4):
                corners[count, i] = corners[c, i]
            count += 1
    return count


@compiled(
    types.void(_CORNERS, _BYTES, _I, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _LABELS, _I, _I, _I, _I), fastmath=_EXACT
)
def _border_cell(
    corners: np.ndarray,
    kept: np.ndarray,
    count: int,
    frac_y: np.ndarray,
    frac_x: np.ndarray,
    start: np.ndarray,
    slope: np.ndarray,
    out: np.ndarray,
    top: int,
    bottom: int,
    left: int,
    right: int,
) -> None:
    """Interpolates `count` classes in the pixels top..bottom-1, left..right-1; start and slope (C,) are scratch."""
    for y in range(top, bottom):
        fy = frac_y[y]
        for k in range(count):
            start[k] = corners[k, 0] + fy * (corners[k, 2] - corners[k, 0])
            slope[k] = corners[k, 1] + fy * (corners[k, 3] - corners[k, 1]) - start[k]
        if count == 2:  # by far the most frequent: only the sign of their difference counts
            first, second = kept[0], kept[1]
            lead, change = start[1] - start[0], slope[1] - slope[0]
            for x in range(left, right):
                out[y, x] = second if lead + frac_x[x] * change > 0 else first
            continue
        for x in range(left, right):
            fx = frac_x[x]
            best, label = start[0] + fx * slope[0], kept[0]
            for k in range(1, count):
                value = start[k] + fx * slope[k]
                label = kept[k] if value > best else label
                best = value if value > best else best
            out[y, x] = label


@compiled(types.void(_LOGITS, _INDICES, _FLOATS, _INDICES, _FLOATS, _I, _I, _LABELS), fastmath=_EXACT)
def fill_rows(
    logits: np.ndarray,
    starts_y: np.ndarray,
    frac_y: np.ndarray,
    starts_x: np.ndarray,
    frac_x: np.ndarray,
    first: int,
    last: int,
    out: np.ndarray,
) -> None:
    """Writes the pixels of cell rows first..last-1 into out (H, W).

    Cell i of an axis lies between the coarse samples i and i + 1 (for the last one: the clamped edge) and has the
    pixels starts[i]..starts[i + 1] - 1; frac is each pixel's position within its cell.
    """
    classes, height, width = logits.shape
    best = np.empty(width, np.float32)
    corners, peaks = np.empty((classes, 4), np.float32), np.empty(classes, np.float32)
    start, slope = np.empty(classes, np.float32), np.empty(classes, np.float32)
    kept = np.zeros(classes, np.uint8)  # zeros: a valid id even if NaNs leave no candidate
    upper, lower = np.empty(width, np.uint8), np.empty(width, np.uint8)
    lower_is = -1
    for y0 in range(first, last):
        top, bottom = starts_y[y0], starts_y[y0 + 1]
        if top == bottom:
            continue
        y1 = min(y0 + 1, height - 1)
        if lower_is == y0:
            upper, lower = lower, upper
        else:
            _argmax_row(logits, y0, best, upper)
        _argmax_row(logits, y1, best, lower)
        lower_is = y1
        x0 = 0
        while x0 < width:
            label, end = upper[x0], x0
            while end < width and upper[end] == label and lower[end] == label:
                end += 1
            agree = end if end == width else end - 1  # the corners of cells x0..agree-1 are all `label`
            if agree > x0:
                _fill(out, top, bottom, starts_x[x0], starts_x[agree], label)
                x0 = agree
                continue
            left, right = starts_x[x0], starts_x[x0 + 1]
            if left < right:
                x1 = min(x0 + 1, width - 1)
                count = _candidates(logits, y0, y1, x0, x1, corners, peaks, kept)
                _border_cell(corners, kept, count, frac_y, frac_x, start, slope, out, top, bottom, left, right)
            x0 += 1
