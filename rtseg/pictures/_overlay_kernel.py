"""The compiled part of `rtseg.pictures.overlay`; importing it compiles or loads the kernel and needs numba."""

from numba import types

from rtseg.pictures._jit import compiled

_PICTURE = types.Array(types.uint8, 3, "C", readonly=True)
_LABELS = types.Array(types.uint8, 2, "C", readonly=True)


# One core is faster here than cv2.applyColorMap and cv2.addWeighted are, so there is no sharing out of rows.
@compiled(types.void(_PICTURE, _LABELS, _PICTURE, types.uint8[:, :, ::1]))
def recolour(image, labels, table, out):  # type: ignore[no-untyped-def]
    """out[y, x, c] = table[labels[y, x], c, image[y, x, c]]; `out` may be `image`."""
    # ranges from 0: numba then knows that no index is negative, which makes this 1.7x faster
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            for channel in range(3):
                out[y, x, channel] = table[label, channel, image[y, x, channel]]
