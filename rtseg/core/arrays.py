"""Memory for pictures, reused once nothing refers to it."""

import sys
from threading import Lock

import numpy as np


def _references(arrays: list[np.ndarray]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


# the count of `_references` for an array that only its list holds
_IDLE = _references([np.empty(0)])[0]


class ArrayPool:
    """Hands out uint8 arrays and reuses their memory once every reference is gone.

    New memory costs a page fault per 4 KiB, and large blocks go back to the system when they are freed. For a 1024x2048
    picture that takes several milliseconds, more than drawing it. An array is free when nothing refers to it or to a
    view of it (views refer to the array that owns the memory). May be used from several threads.

    Args:
        most: how many arrays are kept; more are created as needed, but not kept.

    Example:
        >>> pool = ArrayPool()
        >>> frame = pool.take((1024, 2048, 3))  # uninitialised uint8
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._arrays: list[np.ndarray] = []
        self._lock = Lock()

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialised, C-contiguous uint8 array that nothing else refers to."""
        with self._lock:
            for index, references in enumerate(_references(self._arrays)):
                if references == _IDLE and self._arrays[index].shape == shape:
                    return self._arrays[index]
            array = np.empty(shape, np.uint8)
            if len(self._arrays) >= self._most:  # idle arrays of other shapes make room
                kept = zip(self._arrays, _references(self._arrays), strict=True)
                self._arrays = [other for other, references in kept if references > _IDLE or other.shape == shape]
            if len(self._arrays) < self._most:
                self._arrays.append(array)
            return array

    def copy(self, array: np.ndarray) -> np.ndarray:
        """A C-contiguous copy with the array's dtype that nothing else refers to."""
        *outer, width = array.shape
        copy = self.take((*outer, width * array.itemsize)).view(array.dtype)
        np.copyto(copy, array)
        return copy
