"""How many cores each part may use: one budget for everything that runs at once."""

import os
from dataclasses import dataclass
from numbers import Integral

from rtseg.core.errors import UsageError
from rtseg.core.machine import cores


@dataclass(frozen=True)
class ThreadBudget:
    """Threads that each part of the loop may use; the parts run at the same time, so small parts get few.

    Attributes:
        total: cores shared by everything below.
        engine: for the network, and then for label upsampling in the same thread.
        opencv: for resizing and drawing (`cv2.setNumThreads`).
        codec: for decoding video, and as many again for encoding.
    """

    total: int
    engine: int
    opencv: int
    codec: int


def thread_budget(total: int | None = None) -> ThreadBudget:
    """Shares `total` threads (default: all cores available to this process) among the parts of the loop.

    The network is nearly all of the work, so with up to two cores it gets all of them. With more, a quarter is left for
    capture, drawing and writing, which run at the same time.

    Raises:
        UsageError: fewer than one thread, or more than the machine has cores.
    """
    most = max(cores(), os.cpu_count() or 1)
    total = cores() if total is None else total
    if not (isinstance(total, Integral) and 1 <= total <= most):
        raise UsageError(f"{total!r} threads are not allowed: give 1 to {most}, the cores of this machine")
    total = int(total)  # JSON does not know NumPy's integers
    rest = max(1, total // 4)
    return ThreadBudget(total=total, engine=total if total <= 2 else total - rest, opencv=rest, codec=rest)
