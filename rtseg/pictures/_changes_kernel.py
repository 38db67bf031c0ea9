"""The compiled part of `changes` and of steadying; importing it compiles or loads the kernels and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_ROWS = types.Array(types.uint8, 2, "C", readonly=True)
_LOGITS = types.Array(types.float32, 3, "C", readonly=True)
_MEANS = types.float32[:, :, ::1]
_GAIN = types.Array(types.float32, 2, "C", readonly=True)


@compiled(types.void(_ROWS, types.int64, types.uint16[::1], _MEANS))
def fill_means(rows: np.ndarray, block: int, sums: np.ndarray, means: np.ndarray) -> None:
    """Means of blocks of rows (h, 3 w) into means (h', w', 3); sums (3 w) is scratch and fits up to 257 rows."""
    height, values = rows.shape
    for by in range(means.shape[0]):
        top, bottom = by * block, min(height, (by + 1) * block)
        sums[:] = 0
        for y in range(top, bottom):
            for x in range(values):
                sums[x] = np.uint16(sums[x] + np.uint16(rows[y, x]))
        place = np.uint32(0)  # unsigned: numba then skips the check for negative indices
        for bx in range(means.shape[1]):
            count = min(block, values // 3 - bx * block)
            blue, green, red = np.uint32(0), np.uint32(0), np.uint32(0)
            for _ in range(count):
                blue += np.uint32(sums[place])
                green += np.uint32(sums[place + np.uint32(1)])
                red += np.uint32(sums[place + np.uint32(2)])
                place += np.uint32(3)
            share = np.float32(1) / np.float32((bottom - top) * count)
            means[by, bx, 0], means[by, bx, 1], means[by, bx, 2] = blue * share, green * share, red * share


@compiled(types.void(_MEANS, _MEANS, types.float32[:, ::1]))
def fill_differences(means: np.ndarray, before: np.ndarray, out: np.ndarray) -> None:
    """Writes the largest difference of the three channels of each (h, w, 3) block into out (h, w)."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            largest = np.float32(0)
            for channel in range(3):
                difference = abs(means[y, x, channel] - before[y, x, channel])
                largest = difference if difference > largest else largest
            out[y, x] = largest


@compiled(types.void(_MEANS, _LOGITS, _GAIN))
def follow(state: np.ndarray, logits: np.ndarray, gain: np.ndarray) -> None:
    """state += gain (h, w) * (logits - state), both (C, h, w), in place; exactly the logits if the gain is 1."""
    for c in range(state.shape[0]):
        for y in range(state.shape[1]):
            for x in range(state.shape[2]):
                old, new, share = state[c, y, x], logits[c, y, x], gain[y, x]
                mixed = old + share * (new - old)
                state[c, y, x] = new if share == np.float32(1) else mixed
