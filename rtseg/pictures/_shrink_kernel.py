"""The compiled part of `rtseg.pictures.resize`; importing it compiles or loads the kernel and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_PICTURE = types.Array(types.uint8, 3, "C", readonly=True)


@compiled(types.void(_PICTURE, types.uint16[::1], types.uint8[:, :, ::1]))
def shrink_by_four(image, sums, out):  # type: ignore[no-untyped-def]
    """Means of 4x4 pixels, halves to even: (4 h, 4 w, 3) -> (h, w, 3); `sums` is scratch memory of 12 w values."""
    # down the columns first: that loop, over neighbours in memory, becomes vector instructions
    for y in range(out.shape[0]):
        row = image[4 * y : 4 * y + 4].reshape(4, sums.size)
        for i in range(sums.size):
            sums[i] = np.uint16(row[0, i]) + np.uint16(row[1, i]) + np.uint16(row[2, i]) + np.uint16(row[3, i])
        for x in range(out.shape[1]):
            for channel in range(3):
                i = 12 * x + channel
                total = sums[i] + sums[i + 3] + sums[i + 6] + sums[i + 9]
                out[y, x, channel] = (total + 7 + ((total >> 4) & 1)) >> 4
