"""What refining only the regions would give that an early exit is not sure of (ADP-C, Liu et al. 2022).

ADP-C computes on only where an exit is not confident. Its released code masks a dense convolution, which saves no time.
Time is saved where regions are cut out, with the margin that convolutions look at, and run as one dense batch: what
that costs follows from the regions alone. Deviation: here everything is computed in full and the labels are put
together afterwards, so that features beside a confident region are exact.
"""

import numpy as np


def refined(early: np.ndarray, sure: np.ndarray, last: np.ndarray) -> np.ndarray:
    """An early exit's labels where it is sure, the last exit's elsewhere: all (H, W), `sure` bool."""
    found: np.ndarray = np.where(sure, early, last)
    return found


def tiled_share(sure: np.ndarray, tile: int, halo: int) -> tuple[float, float]:
    """What tiles cost that hold anything unsure.

    With a share a of square tiles of side t, each run with r more pixels on every side, that is a · ((t + 2r) / t)² of
    the work on the whole picture; more than 1 costs more than it saves.

    Args:
        sure: bool (H, W); tiles at the right and lower edge may be cut.
        tile: t in pixels.
        halo: r in pixels.

    Returns:
        The share a, and the share of the work.
    """
    rows, columns = (range(0, side, tile) for side in sure.shape)
    unsure = [not sure[row : row + tile, column : column + tile].all() for row in rows for column in columns]
    active = sum(unsure) / len(unsure)
    return active, active * ((tile + 2 * halo) / tile) ** 2
