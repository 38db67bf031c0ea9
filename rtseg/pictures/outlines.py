"""Label maps as polygons: the outer border of every region, in whole pixels, in drawing order.

Coordinates are those of annotation tools: pixel (x, y) is the square from (x, y) to (x + 1, y + 1). The pixels of a
region are connected through their sides. Holes are not cut out: what lies in one is another region that is drawn later,
so drawing the polygons in order restores the label map. `fill` draws them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from rtseg.core.errors import UsageError


@dataclass(frozen=True)
class Outline:
    """A region's outer border.

    Attributes:
        label: its class.
        depth: the number of regions around it; regions with larger numbers are drawn later.
        points: int32 (n, 2): the corners (x, y), clockwise.
    """

    label: int
    depth: int
    points: np.ndarray


def outlines(labels: np.ndarray, exact: bool = False) -> list[Outline]:
    """uint8 (H, W) -> the outlines of all regions, in drawing order.

    Borders follow the pixels' edges and lose every point that is less than a pixel away from the rest (Douglas and
    Peucker 1973). Neighbours lose the same points, so no gaps open between them. When drawn in order, a pixel gets its
    own class again unless one of its eight neighbours has another. A region of which nothing remains is left out.

    Args:
        labels: the label map.
        exact: keep every corner, so that each pixel gets its own class again.

    Raises:
        UsageError: not uint8 (H, W).
    """
    if labels.dtype != np.uint8 or labels.ndim != 2 or labels.size == 0:
        raise UsageError(f"labels are {labels.dtype} {labels.shape}: want uint8 (H, W)")
    from rtseg.pictures._outline_kernel import reduce, trace  # loads numba, so only when needed

    regions, count = _regions(labels)
    steps = 2 * (np.count_nonzero(labels[1:] != labels[:-1]) + np.count_nonzero(labels[:, 1:] != labels[:, :-1]))
    steps += 2 * (labels.shape[0] + labels.shape[1])
    met, depths, stops = np.zeros((3, count + 1), np.int64)
    points, nodes = np.empty((steps, 2), np.int32), np.empty(steps, np.uint8)
    trace(regions, met, depths, stops, points, nodes)
    kept = np.zeros(steps, np.uint8)
    reduce(points, nodes, stops, exact, kept)
    starts, counts = stops[:-1], np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[stops]
    corners, x, y = points[kept > 0], points[starts, 0], points[starts, 1]
    found = [
        Outline(label, depth, corners[first:last])
        for label, depth, first, last in zip(
            labels[y, x].tolist(),
            depths[regions[y, x]].tolist(),
            counts[:-1].tolist(),
            counts[1:].tolist(),
            strict=True,
        )
        if last > first
    ]
    return sorted(found, key=lambda outline: outline.depth)


def _regions(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Regions of pixels connected through their sides, int32 (H, W), from 1 to n; and n."""
    height, width = labels.shape
    # pixels and, between two of them, whether they are connected: OpenCV connects all that is not 0
    joined = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    joined[::2, ::2] = 1
    joined[1::2, ::2] = labels[1:] == labels[:-1]
    joined[::2, 1::2] = labels[:, 1:] == labels[:, :-1]
    count, regions = cv2.connectedComponents(joined, connectivity=4, ltype=cv2.CV_32S)
    return np.ascontiguousarray(regions[::2, ::2]), count - 1


def fill(rings: list[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    """Which pixels of a picture have their centre inside a polygon, bool (H, W); even-odd, so rings may be holes.

    Args:
        rings: float (n, 2) of (x, y), where pixel (x, y) is the square from (x, y) to (x + 1, y + 1); each is closed
            automatically. A centre on a border belongs to what is right of it or below it.
        size_hw: the picture's height and width.
    """
    height, width = size_hw
    changes = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        one = np.asarray(ring, np.float64)
        two = np.roll(one, -1, 0)
        upper, lower = np.where((one[:, 1] <= two[:, 1])[:, None], (one, two), (two, one))
        top = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
        stop = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
        rows = stop - top  # rows whose centre line an edge crosses
        edge = np.repeat(np.arange(len(one)), rows)
        y = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows) + top[edge]
        slope = lower[edge] - upper[edge]
        x = upper[edge, 0] + (y + 0.5 - upper[edge, 1]) * slope[:, 0] / slope[:, 1]
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(changes, (y, column), 1)
    return (np.cumsum(changes[:, :width], 1) & 1).astype(bool)
