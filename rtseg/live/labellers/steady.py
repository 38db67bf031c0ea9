"""Logits that do not flicker: averages them over time where the picture does not change.

For every cell of the logits z <- z + a(d) (z_new - z). Here d is how much the picture changed there since the last
frame, in grey levels (`pictures/changes.py`); a(d) = LEAST up to NOISE, rising linearly to 1 at CHANGED. So moving
things are taken over at once and leave no smear. This is the linear blend of products such as obs-backgroundremoval,
applied to logits instead of masks and with the gate a(d) added.

A plain average depends on every earlier frame. This one depends on fewer than 2 x WINDOW: a new average begins at every
frame whose index is a multiple of WINDOW, and the one that began at the second-to-last such frame is used. So a run
that starts in the middle of a video returns the same labels as one from the start, bit for bit, once it has seen the
frames from `first_seen` on.
"""

from functools import lru_cache

import numpy as np

from rtseg.pictures.changes import block_changes, block_means

LEAST = 0.25  # weight of the new logits where nothing changed; independent noise keeps 1/7 of its variance
NOISE, CHANGED = 4.0, 8.0  # grey levels, of block means
BLOCK = 4  # at least so many input pixels along an axis make a mean, which averages noise away
WINDOW = 8  # frames


def first_seen(index: int) -> int:
    """The earliest frame that the labels of frame `index` depend on."""
    return max(0, (index // WINDOW - 1) * WINDOW)


class Steady:
    """The average for the frames of one video, given in order.

    A new average starts at a frame whose index does not rise, whose logits have another size, or that comes more than a
    window after the one before.

    Example:
        >>> steady = Steady(stride=8)
        >>> for frame in source:
        ...     logits = steady(frame.index, frame.image, segmenter.logits(frame))
    """

    def __init__(self, stride: int, window: int | None = WINDOW) -> None:
        """Sets up.

        Args:
            stride: pixels of the network's input per cell of the logits, along an axis.
            window: frames between two restarts; None: never restart, for a live source whose drops cannot be repeated
                and which nobody resumes.
        """
        self._block = max(BLOCK, stride)
        self._stride = stride
        self._window = window
        self._index = self._begun = -1
        self._means: np.ndarray | None = None
        self._older: np.ndarray | None = None  # the average that began one restart earlier
        self._newer: np.ndarray | None = None

    def __call__(self, index: int, image: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The averaged logits of the next frame.

        Args:
            index: the frame's position in the video.
            image: uint8 (h, w, 3), the network's input.
            logits: float32 (C, h/s, w/s), C-contiguous.

        Returns:
            float32 (C, h/s, w/s), valid until the next call.
        """
        from rtseg.pictures._changes_kernel import follow  # loads numba, so only when needed

        begun = index // self._window if self._window else 0
        means = block_means(image, self._block)
        follows = self._newer is not None and self._newer.shape == logits.shape and index > self._index
        if not follows or begun > self._begun + 1:
            self._older, self._newer = None, logits.copy()
        else:
            assert self._means is not None
            gain = self._gain(means, self._means, logits.shape[1:])
            if begun > self._begun:
                spare = np.empty_like(logits) if self._older is None else self._older
                np.copyto(spare, logits)
                self._older, self._newer = self._newer, spare
            else:
                assert self._newer is not None
                follow(self._newer, logits, gain)
            if self._older is not None:
                follow(self._older, logits, gain)
        self._index, self._begun, self._means = index, begun, means
        averaged = self._newer if self._older is None else self._older
        assert averaged is not None
        return averaged

    def forget(self) -> None:
        """Starts a new average with the next frame."""
        self._newer = None

    def _gain(self, means: np.ndarray, before: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
        """float32 (h/s, w/s): a(d) of every cell of the logits."""
        changes = block_changes(means, before)
        rise = np.float32((1 - LEAST) / (CHANGED - NOISE))
        gains: np.ndarray = np.maximum(np.float32(LEAST), changes * rise + np.float32(1 - CHANGED * rise))
        gains[changes >= CHANGED] = 1  # exactly 1, so that the new logits are used as they are
        if self._stride == self._block:
            return gains
        rows, columns = (
            _block_of(cells, self._stride, self._block, blocks)
            for cells, blocks in zip(size_hw, gains.shape, strict=True)
        )
        gain: np.ndarray = gains.take(rows, 0).take(columns, 1)
        return gain


@lru_cache(maxsize=16)
def _block_of(cells: int, stride: int, block: int, blocks: int) -> np.ndarray:
    """int64 (cells,): the block that contains the middle of each cell along an axis."""
    return np.minimum((np.arange(cells) * stride + stride // 2) // block, blocks - 1)
