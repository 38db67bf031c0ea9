"""The compiled part of `rtseg.metrics.boundary`; importing it compiles or loads the kernels and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_MAP = types.Array(types.uint8, 2, "C", readonly=True)
_OFFSETS = types.Array(types.int64, 2, "C", readonly=True)


@compiled(types.void(_MAP, types.uint8, types.uint8[:, ::1]))
def mark_edges(labels: np.ndarray, none: int, edges: np.ndarray) -> None:
    """edges[y, x] = its label if one of the four neighbours has another, else `none`."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            differs = x > 0 and labels[y, x - 1] != label
            differs |= x + 1 < width and labels[y, x + 1] != label
            differs |= y > 0 and labels[y - 1, x] != label
            differs |= y + 1 < height and labels[y + 1, x] != label
            edges[y, x] = label if differs else none


@compiled(types.void(_MAP, _MAP, types.uint8, _OFFSETS, types.int64[::1], types.int64[::1]))
def count_hits(
    edges: np.ndarray, others: np.ndarray, none: int, offsets: np.ndarray, counts: np.ndarray, hits: np.ndarray
) -> None:
    """counts[c] += edge pixels of class c; hits[c] += those with an edge of c in `others` at one of the offsets."""
    height, width = edges.shape
    for y in range(height):
        for x in range(width):
            label = edges[y, x]
            if label == none:
                continue
            counts[label] += 1
            for k in range(offsets.shape[0]):
                near_y, near_x = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= near_y < height and 0 <= near_x < width and others[near_y, near_x] == label:
                    hits[label] += 1
                    break
