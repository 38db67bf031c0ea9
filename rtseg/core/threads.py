"""Who may use which core: one budget for all that runs at once."""

import os
from dataclasses import dataclass
from numbers import Integral

from rtseg.core.errors import UsageError
from rtseg.core.machine import cores


@dataclass(frozen=True)
class ThreadBudget:
    """Threads each part of the loop may use; the parts overlap, so small parts get few.

    Attributes:
        total: cores shared by everything below.
        engine: for the network, and, after it in the same thread, for label upsampling.
        opencv: for resizing and drawing (`cv2.setNumThreads`).
        codec: for decoding and, again, for encoding video.
    """

    total: int
    engine: int
    opencv: int
    codec: int


def thread_budget(total: int | None = None) -> ThreadBudget:
    """Shares `total` threads (default: every core of this process) among the parts of the loop.

    The network is nearly all of the arithmetic, so up to two cores it gets every one; beyond that a quarter
    is left to capture, drawing and writing, which run at the same time.

    Raises:
        UsageError: fewer than one thread, or more than the machine has cores.
    """
    most = max(cores(), os.cpu_count() or 1)
    total = cores() if total is None else total
    if not (isinstance(total, Integral) and 1 <= total <= most):
        raise UsageError(f"{total!r} threads are not allowed: give 1 to {most}, the cores of this machine")
    total = int(total)  # of NumPy's whole numbers JSON knows nothing
    rest = max(1, total // 4)
    return ThreadBudget(total=total, engine=total if total <= 2 else total - rest, opencv=rest, codec=rest)
