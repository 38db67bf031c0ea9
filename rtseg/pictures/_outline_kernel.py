"""The compiled part of `rtseg.pictures.outlines`; importing it compiles or loads the kernels and needs numba."""

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_REGIONS = types.Array(types.int32, 2, "C", readonly=True)
_POINTS = types.int32[:, ::1]
_READ_POINTS = types.Array(types.int32, 2, "C", readonly=True)
_FLAGS = types.uint8[::1]
_READ_FLAGS = types.Array(types.uint8, 1, "C", readonly=True)
_INTS = types.int64[::1]
_I = types.int64


@compiled(types.int32(_REGIONS, _I, _I))
def _at(regions, y, x):  # type: ignore[no-untyped-def]
    """The region of a pixel; 0 outside the picture."""
    if y < 0 or x < 0 or y >= regions.shape[0] or x >= regions.shape[1]:
        return 0
    return regions[y, x]


@compiled(types.uint8(_REGIONS, _I, _I))
def _is_node(regions, y, x):  # type: ignore[no-untyped-def]
    """Whether three or more borders meet at this corner between pixels, or it is a corner of the picture."""
    a, b = _at(regions, y - 1, x - 1), _at(regions, y - 1, x)
    c, d = _at(regions, y, x - 1), _at(regions, y, x)
    height, width = regions.shape
    if (y == 0 or y == height) and (x == 0 or x == width):
        return 1
    return 1 if (a != b) + (c != d) + (a != c) + (b != d) >= 3 else 0


@compiled(types.void(_REGIONS, _INTS, _INTS, _INTS, _POINTS, _FLAGS))
def trace(regions, firsts, depths, stops, points, nodes):  # type: ignore[no-untyped-def]
    """Walks around every region along the edges of its pixels, with the region on the right.

    Args:
        regions: int32 (H, W): 1, 2, … n, each 4-connected.
        firsts: int64 (n + 1,), zeros: set to 1 for each region found.
        depths: int64 (n + 1,): set to the number of regions around each region.
        stops: int64 (n + 1,): set to the end of each region's points; entries 1 to n in the order of their first
            pixels.
        points: int32 (m, 2) of (x, y): set to the outer borders in turn, with a point at every pixel corner passed.
        nodes: uint8 (m,): set to 1 if a point is a node (`_is_node`).

    Also sets `firsts[0]` to the number of rings; `stops[k]` and `points[stops[k - 1]]` belong to the k-th region found.
    """
    height, width = regions.shape
    # 1 where an outer border passes below a pixel; below its other lower edges lies what is inside the region
    under = np.zeros((height + 1, width), np.uint8)
    rings, end = 0, 0
    for y in range(height):
        for x in range(width):
            region = regions[y, x]
            if firsts[region]:
                continue
            firsts[region] = 1
            if y > 0:
                above = regions[y - 1, x]
                depths[region] = depths[above] + (under[y, x] == 0)
            row, column, dy, dx = y, x, 0, 1  # at the upper left corner of its first pixel, heading right
            while True:
                points[end, 0], points[end, 1] = column, row
                nodes[end] = _is_node(regions, row, column)
                end += 1
                if dx == -1:
                    under[row, column - 1] = 1
                row, column = row + dy, column + dx
                if row == y and column == x:
                    break  # this corner is passed only once: no part of the region lies above or left of it
                right_y, right_x = row + (dy + dx - 1) // 2, column + (dx - dy - 1) // 2
                left_y, left_x = row + (dy - dx - 1) // 2, column + (dx + dy - 1) // 2
                if _at(regions, right_y, right_x) != region:
                    dy, dx = dx, -dy
                elif _at(regions, left_y, left_x) == region:
                    dy, dx = -dx, dy
            rings += 1
            stops[rings] = end
    firsts[0] = rings


@compiled(types.int64(_READ_POINTS, _I, _I, _I, _I))
def _farthest(points, first, last, start, count):  # type: ignore[no-untyped-def]
    """The point between two others that is farthest from the line segment between them; -1 if all are within a pixel.

    Uses 64-bit integers throughout (numba converts the points' 32 bits), and finds the same point in both directions of
    the border.
    """
    ax, ay = points[start + first % count, 0], points[start + first % count, 1]
    bx, by = points[start + last % count, 0], points[start + last % count, 1]
    ux, uy = bx - ax, by - ay
    length = ux * ux + uy * uy
    most, best, best_x, best_y = max(length, 1), -1, 0, 0  # one pixel of distance, squared, times `length`
    for place in range(first + 1, last):
        x, y = points[start + place % count, 0], points[start + place % count, 1]
        along = (x - ax) * ux + (y - ay) * uy
        if length == 0:
            distance = (x - ax) ** 2 + (y - ay) ** 2
        elif along < 0:
            distance = ((x - ax) ** 2 + (y - ay) ** 2) * length
        elif along > length:
            distance = ((x - bx) ** 2 + (y - by) ** 2) * length
        else:
            distance = ((x - ax) * uy - (y - ay) * ux) ** 2
        ahead = x < best_x or (x == best_x and y < best_y)
        if distance > most or (distance == most and best >= 0 and ahead):
            most, best, best_x, best_y = distance, place, x, y
    return best


@compiled(types.void(_READ_POINTS, _READ_FLAGS, _I, _I, _FLAGS))
def _simplify(points, nodes, start, count, kept):  # type: ignore[no-untyped-def]
    """Marks the points of one ring that stay, separately for each stretch between two nodes."""
    stack = np.empty((64, 2), np.int64)
    first = 0
    while first < count - 1 and not nodes[start + first]:
        first += 1
    first = first if nodes[start + first] else 0
    begin = first
    while begin < first + count:
        stop = begin + 1
        while stop < first + count and not nodes[start + stop % count]:
            stop += 1
        kept[start + begin % count] = 1
        stack[0, 0], stack[0, 1] = begin, stop
        depth = 1
        while depth:
            depth -= 1
            one, two = stack[depth, 0], stack[depth, 1]
            split = _farthest(points, one, two, start, count)
            if split >= 0:
                kept[start + split % count] = 1
                if depth + 2 > stack.shape[0]:
                    larger = np.empty((2 * stack.shape[0], 2), np.int64)
                    larger[: stack.shape[0]] = stack
                    stack = larger
                stack[depth, 0], stack[depth, 1] = one, split
                stack[depth + 1, 0], stack[depth + 1, 1] = split, two
                depth += 2
        begin = stop


@compiled(types.void(_READ_POINTS, _I, _I, _FLAGS))
def _keep_turns(points, start, stop, kept):  # type: ignore[no-untyped-def]
    """Marks the points of a ring at which its direction changes."""
    for place in range(start, stop):
        before = place - 1 if place > start else stop - 1
        after = place + 1 if place + 1 < stop else start
        straight_x = points[after, 0] - points[place, 0] == points[place, 0] - points[before, 0]
        straight_y = points[after, 1] - points[place, 1] == points[place, 1] - points[before, 1]
        kept[place] = 0 if straight_x and straight_y else 1


@compiled(types.boolean(_READ_POINTS, _I, _I, _FLAGS))
def _holds_something(points, start, stop, kept):  # type: ignore[no-untyped-def]
    """Whether the kept points of a ring enclose any area, clockwise like the ring."""
    count, area, first, last = 0, 0, -1, -1
    for place in range(start, stop):
        if kept[place]:
            count += 1
            if first < 0:
                first = place
            else:
                area += points[last, 0] * points[place, 1] - points[place, 0] * points[last, 1]
            last = place
    if count >= 3:
        area += points[last, 0] * points[first, 1] - points[first, 0] * points[last, 1]
    return count >= 3 and area > 0


@compiled(types.void(_READ_POINTS, _READ_FLAGS, _INTS, types.boolean, _FLAGS))
def reduce(points, nodes, stops, exact, kept):  # type: ignore[no-untyped-def]
    """Marks the points that stay, so that all others are within a pixel of the new border (Douglas-Peucker 1973).

    Nodes stay, and what lies between two of them is treated alike on both sides, so neighbours still share it. A ring
    that would enclose nothing loses all its points, and its neighbours get its area; with only one neighbour, it keeps
    every corner instead.

    Args:
        points, nodes, stops: as `trace` makes them; `stops` starts with 0.
        exact: every corner stays.
        kept: uint8 (m,), zeros: set to 1 for each point that stays.
    """
    for ring in range(stops.size - 1):
        start, stop = stops[ring], stops[ring + 1]
        if exact:
            _keep_turns(points, start, stop, kept)
            continue
        _simplify(points, nodes, start, stop - start, kept)
        if not _holds_something(points, start, stop, kept):
            if nodes[start:stop].any():
                kept[start:stop] = 0
            else:
                _keep_turns(points, start, stop, kept)
