"""The compiled part of `rtseg.pictures.confidence`; importing it compiles or loads the kernel and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_LOGITS = types.Array(types.float32, 3, "C", readonly=True)
_FLOATS, _INDICES, _I = types.float32[::1], types.int64[::1], types.int64
_PLANE = types.float32[:, ::1]
_LN2, _LOG2_E = np.float32(np.log(2)), np.float32(1 / np.log(2))
_FIFTH, _QUARTER, _THIRD, _HALF = (np.float32(1 / n) for n in (5, 4, 3, 2))


@compiled(types.void(_FLOATS, _FLOATS, types.int32[::1], _FLOATS, _FLOATS), fastmath={"contract"})
def _add_powers(values: np.ndarray, best: np.ndarray, bits: np.ndarray, scale: np.ndarray, total: np.ndarray) -> None:
    """total += exp(values - best), to 3e-6, for values of at most `best`; `bits` and `scale` share their memory.

    e^v = 2^n e^g with an integer n and |g| <= ln(2) / 2, for which the series up to g^5 is exact enough. The compiler
    makes vector instructions of it, unlike of the library's exp.
    """
    for x in range(total.size):
        v = (values[x] - best[x]) * _LOG2_E
        v = v if v > np.float32(-120) else np.float32(-120)
        n = np.floor(v + _HALF)
        bits[x] = (np.int32(n) + np.int32(127)) << 23  # the exponent of a float
        g = (v - n) * _LN2
        power = np.float32(1) + g * _FIFTH
        power = np.float32(1) + g * _QUARTER * power
        power = np.float32(1) + g * _THIRD * power
        power = np.float32(1) + g * _HALF * power
        values[x] = np.float32(1) + g * power
    for x in range(total.size):
        total[x] += values[x] * scale[x]


@compiled(types.void(_LOGITS, _INDICES, _FLOATS, _INDICES, _FLOATS, _I, _I, _PLANE), fastmath={"contract"})
def fill_confidence(
    logits: np.ndarray,
    tops: np.ndarray,
    frac_y: np.ndarray,
    lefts: np.ndarray,
    frac_x: np.ndarray,
    first: int,
    last: int,
    out: np.ndarray,
) -> None:
    """Writes the softmax of the best class for the pixel rows first..last-1 into out (H, W).

    A pixel lies between the coarse rows tops[y] and tops[y] + 1 and the columns lefts[x] and lefts[x] + 1, at `frac` of
    the way; at the lower and right edges both are the last one.
    """
    classes, height, width = logits.shape
    line = np.empty(width + 1, np.float32)
    values, best = np.empty((classes, out.shape[1]), np.float32), np.empty(out.shape[1], np.float32)
    bits = np.empty(out.shape[1], np.int32)
    scale = bits.view(np.float32)
    for y in range(first, last):
        top, fy = tops[y], frac_y[y]
        bottom = min(top + 1, height - 1)
        best[:] = -np.inf
        for c in range(classes):
            for x in range(width):
                line[x] = logits[c, top, x] + fy * (logits[c, bottom, x] - logits[c, top, x])
            line[width] = line[width - 1]
            for x in range(best.size):
                place = np.uint32(lefts[x])  # unsigned: numba then skips the check for negative indices
                left = line[place]
                value = left + frac_x[x] * (line[place + np.uint32(1)] - left)
                values[c, x] = value
                best[x] = value if value > best[x] else best[x]
        total = out[y]
        total[:] = 0
        for c in range(classes):
            _add_powers(values[c], best, bits, scale, total)
        for x in range(total.size):
            total[x] = np.float32(1) / total[x]
