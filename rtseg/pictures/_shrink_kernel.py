"""The compiled part of `rtseg.pictures.resize`; importing it compiles or loads the kernel and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_ROW, _WEIGHTS = types.uint16[::1], types.uint16[:, ::1]
_PICTURE = types.Array(types.uint8, 3, "C", readonly=True)


@compiled(types.void(_PICTURE, _ROW, types.uint8[:, :, ::1]))
def shrink_by_four(image, sums, out):  # type: ignore[no-untyped-def]
    """Means of 4x4 pixels, halves rounded to even: (4 h, 4 w, 3) -> (h, w, 3); `sums` is scratch for 12 w values."""
    # sum columns first: that loop runs over neighbours in memory and uses vector instructions
    for y in range(out.shape[0]):
        row = image[4 * y : 4 * y + 4].reshape(4, sums.size)
        for i in range(sums.size):
            sums[i] = np.uint16(row[0, i]) + np.uint16(row[1, i]) + np.uint16(row[2, i]) + np.uint16(row[3, i])
        for x in range(out.shape[1]):
            for channel in range(3):
                i = 12 * x + channel
                total = sums[i] + sums[i + 3] + sums[i + 6] + sums[i + 9]
                out[y, x, channel] = (total + 7 + ((total >> 4) & 1)) >> 4


@compiled(types.void(_PICTURE, types.int32[::1], _WEIGHTS, types.int32[::1], _WEIGHTS, _ROW, types.uint8[:, :, ::1]))
def shrink(image, tops, row_weights, lefts, column_weights, sums, out):  # type: ignore[no-untyped-def]
    """Weighted means: row y of `out` starts at row `tops[y]` of `image`; its weights end at the first 0 and sum to 256.

    `sums` is scratch memory for three values per column of `image`.
    """
    rows = image.reshape(image.shape[0], sums.size)
    for y in range(out.shape[0]):
        weight, row = row_weights[y, 0], rows[tops[y]]
        for i in range(sums.size):
            sums[i] = np.uint16(weight) * np.uint16(row[i])
        for k in range(1, row_weights.shape[1]):
            weight = row_weights[y, k]
            if weight == 0:
                break
            row = rows[tops[y] + k]
            for i in range(sums.size):
                sums[i] += np.uint16(weight) * np.uint16(row[i])
        for x in range(out.shape[1]):
            i = 3 * lefts[x]
            blue, green, red = np.uint32(32768), np.uint32(32768), np.uint32(32768)  # one half, for rounding
            for k in range(column_weights.shape[1]):
                share = np.uint32(column_weights[x, k])
                if share == 0:
                    break
                blue += share * np.uint32(sums[i])
                green += share * np.uint32(sums[i + 1])
                red += share * np.uint32(sums[i + 2])
                i += 3
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = blue >> 16, green >> 16, red >> 16
