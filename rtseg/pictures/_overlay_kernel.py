"""The compiled part of `rtseg.pictures.overlay`; importing it compiles or loads the kernel and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

BLOCK = 32  # neighbouring pixels; if all have the same label, as is usual, vector instructions mix them

_PICTURE = types.Array(types.uint8, 3, "C", readonly=True)
_LABELS = types.Array(types.uint8, 2, "C", readonly=True)


# One core is faster here than cv2.applyColorMap and cv2.addWeighted, so rows are not shared among threads.
@compiled(types.void(_PICTURE, _LABELS, types.uint16[::1], types.uint16[:, ::1], types.uint8[:, :, ::1]))
def mix(image, labels, weights, colours, out):  # type: ignore[no-untyped-def]
    """out[y, x, c] = (weights[label] image[y, x, c] + colours[label, c]) / 256, truncated; `out` may be `image`.

    `colours` repeats the three channels of each label `BLOCK` times, side by side.
    """
    width = labels.shape[1]
    pixels, drawn = image.reshape(labels.shape[0], 3 * width), out.reshape(labels.shape[0], 3 * width)
    # ranges from 0: so numba knows that no index is negative, which is 1.7x faster
    for y in range(labels.shape[0]):
        for block in range((width + BLOCK - 1) // BLOCK):
            x = block * BLOCK
            label, differ = labels[y, x], np.uint8(x + BLOCK > width)
            if not differ:
                for i in range(BLOCK):
                    differ |= labels[y, x + i] ^ label
            if not differ:
                weight = weights[label]
                for i in range(3 * BLOCK):
                    value = np.uint16(pixels[y, 3 * x + i])
                    drawn[y, 3 * x + i] = np.uint16(value * weight + colours[label, i]) >> 8
                continue
            for i in range(min(BLOCK, width - x)):
                label = labels[y, x + i]
                for channel in range(3):
                    value = np.uint16(pixels[y, 3 * (x + i) + channel])
                    drawn[y, 3 * (x + i) + channel] = np.uint16(value * weights[label] + colours[label, channel]) >> 8
