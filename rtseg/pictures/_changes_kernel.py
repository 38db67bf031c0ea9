"""The compiled part of `changes` and of steadying; importing it compiles or loads the kernels and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_ROWS = types.Array(types.uint8, 2, "C", readonly=True)
_LOGITS = types.Array(types.float32, 3, "C", readonly=True)
_GAIN = types.Array(types.float32, 2, "C", readonly=True)


@compiled(types.void(_ROWS, types.int64, types.uint16[::1], types.float32[:, :, ::1]))
def fill_means(rows: np.ndarray, block: int, sums: np.ndarray, means: np.ndarray) -> None:
    """Means of blocks of rows (h, 3 w) into means (h', w', 3); sums (3 w) is scratch, which holds up to 257 rows."""
    height, values = rows.shape
    for by in range(means.shape[0]):
        top, bottom = by * block, min(height, (by + 1) * block)
        sums[:] = 0
        for y in range(top, bottom):
            for x in range(values):
                sums[x] = np.uint16(sums[x] + np.uint16(rows[y, x]))
        for bx in range(means.shape[1]):
            left, right = bx * block, min(values // 3, (bx + 1) * block)
            blue, green, red = np.uint32(0), np.uint32(0), np.uint32(0)
            for x in range(left, right):
                blue += np.uint32(sums[3 * x])
                green += np.uint32(sums[3 * x + 1])
                red += np.uint32(sums[3 * x + 2])
            share = np.float32(1) / np.float32((bottom - top) * (right - left))
            means[by, bx, 0], means[by, bx, 1], means[by, bx, 2] = blue * share, green * share, red * share


@compiled(types.void(types.float32[:, :, ::1], _LOGITS, _GAIN))
def follow(state: np.ndarray, logits: np.ndarray, gain: np.ndarray) -> None:
    """state += gain (h, w) * (logits - state), both (C, h, w), in place; exactly the logits where the gain is 1."""
    for c in range(state.shape[0]):
        for y in range(state.shape[1]):
            for x in range(state.shape[2]):
                old, new, share = state[c, y, x], logits[c, y, x], gain[y, x]
                mixed = old + share * (new - old)
                state[c, y, x] = new if share == np.float32(1) else mixed
