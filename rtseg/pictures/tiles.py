"""Cuts a picture into tiles, and into parts that add a halo around each tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import NamedTuple

import numpy as np

from rtseg.core.sizes import Size


class Tile(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right` of any grid, the last ones excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class Tiling:
    """Tiles of a picture. All parts have one size, so that they can form a batch: at an edge of the picture, a part is
    moved inwards until it ends at that edge.

    Args:
        size_hw: size of the picture.
        tile_hw: size of a tile; those at the lower and right edges may be smaller.
        halo: pixels around a tile that belong to its part.

    Attributes:
        tiles: row by row.
        part_hw: size of every part.
    """

    size_hw: Size
    tile_hw: Size
    halo: int

    @cached_property
    def tiles(self) -> list[Tile]:
        (height, width), (rows, columns) = self.size_hw, self.tile_hw
        return [Tile(top, left, min(top + rows, height), min(left + columns, width))
                for top in range(0, height, rows) for left in range(0, width, columns)]  # fmt: skip

    @property
    def part_hw(self) -> Size:
        height, width = (min(tile + 2 * self.halo, side) for tile, side in zip(self.tile_hw, self.size_hw, strict=True))
        return height, width

    def corner(self, tile: Tile) -> tuple[int, int]:
        """(top, left) of a tile's part."""
        top, left = (min(max(start - self.halo, 0), side - part) for start, side, part in
                     zip(tile[:2], self.size_hw, self.part_hw, strict=True))  # fmt: skip
        return top, left

    def work(self, count: int) -> float:
        """Pixels of `count` parts as a share of the picture's, at most 1: then the whole picture is no more work."""
        parts, whole = (size_hw[0] * size_hw[1] for size_hw in (self.part_hw, self.size_hw))
        return min(1.0, count * parts / whole)

    def least(self, sure: np.ndarray) -> np.ndarray:
        """float (h, w) over the picture, with h and w dividing its sides -> the smallest value in each tile."""
        stride = self.size_hw[0] // sure.shape[0]
        return np.array([sure[Tile(*(side // stride for side in tile)).slices].min() for tile in self.tiles])

    def join(self, parts: np.ndarray, tiles: Sequence[Tile]) -> np.ndarray:
        """Joins logits of parts on the whole picture's grid; right on tiles and one cell around them, 0 elsewhere.

        Args:
            parts: float32 (N, C, h, w), one for each tile.
            tiles: in the same order.

        Returns:
            float32 (C, H, W), with the cell size of the parts.
        """
        stride = self.part_hw[0] // parts.shape[2]
        height, width = (side // stride for side in self.size_hw)
        whole = np.zeros((parts.shape[1], height, width), np.float32)
        for part, tile in zip(parts, tiles, strict=True):
            row, column = (start // stride for start in self.corner(tile))
            top, left, bottom, right = (side // stride for side in tile)
            known = Tile(max(top - 1, 0), max(left - 1, 0), min(bottom + 1, height), min(right + 1, width))
            inside = Tile(known.top - row, known.left - column, known.bottom - row, known.right - column)
            whole[:, *known.slices] = part[:, *inside.slices]
        return whole

    def pixels(self, tile: Tile, frame_hw: Size) -> Tile:
        """The pixels of a frame of any size whose centres lie in a tile of the picture made from it."""
        top, left, bottom, right = (
            ceil(side * of / size - 0.5) for side, of, size in zip(tile, 2 * frame_hw, 2 * self.size_hw, strict=True)
        )
        return Tile(top, left, bottom, right)
