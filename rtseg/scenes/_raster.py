"""The compiled loops of the painter; importing it compiles or loads them and needs numba.

Pixels are uint32: blue, green, red and label from the lowest byte up.
"""

from math import ceil, floor

import numpy as np
from numba import types

from rtseg.pictures._jit import compiled

_CANVAS = types.uint32[:, ::1]
_TEXELS = types.Array(types.uint32, 2, "C", readonly=True)
_FLOATS = types.float64[::1]
_END = types.UniTuple(types.float64, 4)  # type: ignore[no-untyped-call]
_LIGHT = types.UniTuple(types.float64, 3)  # type: ignore[no-untyped-call]
_POINTS = types.Array(types.float64, 2, "C", readonly=True)
_ENDS = types.Array(types.int64, 1, "C", readonly=True)
_F = types.float64


@compiled(types.float64[:, ::1](_POINTS, types.Array(_F, 1, "C", readonly=True), _F, _F, _F, _F, _F, _F, _F))
def project(points, bend, behind, s, y, focal, middle, horizon, nearest):  # type: ignore[no-untyped-def]
    """World points (u, y, s) -> pixels (x, y); `bend` is the road's lateral shift per metre, starting at s - behind.

    A negative `focal` mirrors the picture; points nearer than `nearest` are moved to that distance.
    """
    pixels = np.empty((points.shape[0], 2))
    for i in range(points.shape[0]):
        ahead = points[i, 2] - s
        place = min(max(ahead + behind, 0.0), bend.size - 1.001)
        low = np.uint32(place)
        shift = bend[low] + (bend[low + 1] - bend[low]) * (place - low)
        scale = focal / max(ahead, nearest)
        pixels[i, 0] = middle + (points[i, 0] + shift) * scale
        pixels[i, 1] = horizon + (y - points[i, 1]) * abs(scale)
    return pixels


@compiled(types.void(_CANVAS, _POINTS, _ENDS, _POINTS, _LIGHT, _LIGHT, _END))
def fill_polygons(canvas, points, ends, colours, gain, haze, place):  # type: ignore[no-untyped-def]
    """Fills polygons in order: the k-th has the points up to ends[k], the colour * gain + haze and its label.

    Pixels are the points multiplied by the first two values of `place` plus the last two. Every row is filled from the
    outline's leftmost to its rightmost pixel, so outlines must not fold within a row; pixels that an edge touches are
    included, so that nothing is too thin to be seen.
    """
    height, width = canvas.shape
    scale_x, scale_y, origin_x, origin_y = place
    left, right = np.empty(height, np.float32), np.empty(height, np.float32)
    first = 0
    for k in range(ends.size):
        last = ends[k]
        low, high = float(height), -1.0
        for i in range(first, last):
            y1 = points[i, 1] * scale_y + origin_y
            low, high = min(low, y1), max(high, y1)
        top, end = int(max(low + 0.5, 0.0)), int(min(max(high + 1.5, 0.0), height))
        for y in range(top, end):
            left[y], right[y] = width, -1.0
        next_x, next_y = points[last - 1, 0] * scale_x + origin_x, points[last - 1, 1] * scale_y + origin_y
        for i in range(first, last):
            x0, y0 = next_x, next_y
            x1, y1 = points[i, 0] * scale_x + origin_x, points[i, 1] * scale_y + origin_y
            next_x, next_y = x1, y1
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            slope = (x1 - x0) / max(y1 - y0, 1e-9)
            for y in range(int(max(y0 + 0.5, 0.0)), int(min(max(y1 + 1.5, 0.0), height))):
                above, below = x0 + (max(y - 0.5, y0) - y0) * slope, x0 + (min(y + 0.5, y1) - y0) * slope
                left[y], right[y] = min(left[y], above, below), max(right[y], above, below)
        value = int(colours[k, 3]) << 24
        for c in range(3):
            value |= int(min(colours[k, c] * gain[c] + haze[c] + 0.5, 255.0)) << (8 * c)
        for y in range(top, end):
            begin = int(max(left[y] + 0.5, 0.0))
            line = canvas[y, begin:]
            for i in range(int(min(max(right[y] + 1.5, 0.0), width)) - begin):
                line[i] = value
        first = last


@compiled(types.void(_CANVAS, _TEXELS, _END, _END, types.float64, types.float64))
def draw_upright(canvas, image, one, other, start, jitter):  # type: ignore[no-untyped-def]
    """Maps the texel columns from `start` on onto an upright quad between two ends, (x, top, bottom, scale) each.

    The camera does not roll, so a pixel column shows one texel column and the pixels of a texel row are one run. Label
    0 is transparent. `jitter` 1 takes the texel from one of four positions around each pixel in turn; the lens blur, a
    binomial 3x3, weights the four equally, so the result is as smooth as interpolation at no cost.
    """
    height, width = canvas.shape
    tall, wide = image.shape
    x0, top0, bottom0, scale0 = one
    x1, top1, bottom1, scale1 = other
    first = int(max(min(x0, x1) + 0.5, 0.0))
    count = int(min(max(x0, x1, -1.5) + 1.5, width)) - first
    if count < 1:
        return
    columns, base = np.empty((2, count), np.uint32), np.empty((2, count), np.float32)
    step = np.empty(count, np.float32)
    length = x1 - x0 if abs(x1 - x0) > 1e-3 else 1e-3
    for k in range(count):
        t = min(max((first + k - x0) / length, 0.0), 1.0)
        share = t * scale1 / (scale0 + t * (scale1 - scale0))
        top = top0 + t * (top1 - top0)
        step[k] = tall / max(bottom0 + t * (bottom1 - bottom0) - top, 1e-3)
        for odd in range(2):
            shift = jitter * (0.25 - 0.5 * ((k + odd) & 1))
            columns[odd, k] = int(min(max(start + share * (wide - start) + shift, 0.0), wide - 1.0))
            base[odd, k] = -top * step[k] + jitter * (0.25 - 0.5 * (k & 1))
    lowest = np.float32(tall - 1)
    rise, fall = (top1 - top0) / length, (bottom1 - bottom0) / length
    for y in range(int(max(min(top0, top1) + 0.5, 0.0)), int(min(max(bottom0, bottom1, -1.5) + 1.5, height))):
        odd = y & 1
        left, right = float(first), float(first + count - 1)
        if rise > 0.0:  # top <= y + 0.5
            right = min(right, x0 + (y + 0.5 - top0) / rise)
        elif rise < 0.0:
            left = max(left, x0 + (y + 0.5 - top0) / rise)
        if fall > 0.0:  # bottom >= y - 0.5
            left = max(left, x0 + (y - 0.5 - bottom0) / fall)
        elif fall < 0.0:
            right = min(right, x0 + (y - 0.5 - bottom0) / fall)
        line, column, shift = canvas[y, first:], columns[odd], base[odd]
        begin = ceil(left) - first
        for i in range(floor(right) - first - begin + 1):
            at = np.uint32(begin + i)  # unsigned: numba then knows that no index is negative, which is faster
            row = np.uint32(min(max(shift[at] + y * step[at], np.float32(0.0)), lowest))
            texel = image[row, column[at]]
            if texel >> 24:
                line[at] = texel


@compiled(types.void(_CANVAS, _CANVAS, types.int16[:, ::1], _FLOATS, _FLOATS, _FLOATS, _FLOATS, _FLOATS))
def finish_ground(canvas, shadow, grain, v, u, step, fade, dark):  # type: ignore[no-untyped-def]
    """Adds grain to row y, from row v[y], column u[y] + x * step[y], times fade[y]; darkens where `shadow` is set.

    `grain` repeats and its sides are powers of two; colours must be far enough from 0 and 255 for grain not to
    overflow.
    """
    height, width = canvas.shape
    rows, columns = np.uint32(grain.shape[0] - 1), np.uint32(grain.shape[1] - 1)
    blue, green, red = np.uint32(dark[0] * 256), np.uint32(dark[1] * 256), np.uint32(dark[2] * 256)
    added = np.empty(width, np.int32)
    for y in range(height):
        line = grain[np.uint32(v[y]) & rows]
        at, by, weight = int(u[y] * 65536), int(step[y] * 65536), int(fade[y] * 256)
        for x in range(width):
            place, share = at >> 16, np.int32((at >> 8) & 255)
            here, there = np.int32(line[np.uint32(place) & columns]), np.int32(line[np.uint32(place + 1) & columns])
            added[x] = (here * 256 + (there - here) * share) * weight >> 16
            at += by
        for x in range(width):  # separate from the loop above and without a branch, for SIMD
            pixel = canvas[y, x] + np.uint32(added[x]) * np.uint32(0x10101)
            b, g, r = (pixel & 0xFF) * blue, (pixel & 0xFF00) * green, (pixel & 0xFF0000) * red
            dim = (pixel & 0xFF000000) | (b >> 8) | (g >> 8 & 0xFF00) | (r >> 8 & 0xFF0000)
            canvas[y, x] = dim if shadow[y, x] else pixel
