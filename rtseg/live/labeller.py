"""The contract of everything that labels frames: a `Segmenter`, and what wraps one."""

import logging
from collections.abc import Callable, Sized
from typing import Protocol

import numpy as np

from rtseg.core.card import Card
from rtseg.core.errors import StalledError
from rtseg.core.frame import Frame, Labelled
from rtseg.core.sizes import Size
from rtseg.core.threads import ThreadBudget
from rtseg.core.watchdog import MOST_S
from rtseg.engines import EngineInfo
from rtseg.live.policies import Policy

_log = logging.getLogger(__name__)


def drain(in_flight: Sized, collect: Callable[[], object]) -> None:
    """Collects and discards everything in flight."""
    while in_flight:
        try:
            collect()
        except Exception as error:  # of any kind: the caller reports why it gave up
            _log.debug("a frame that nobody waits for failed: %s", error)


def stalled(labeller: "Labeller") -> StalledError:
    """The error for a labeller that no longer answers."""
    info = labeller.info
    return StalledError(
        f"{labeller.card.name} on {info.engine} ({info.device}) has not answered for {MOST_S:.0f} s: the device or its "
        "driver may hang; start again, and run rtseg doctor if it comes back"
    )


class Labeller(Protocol):
    """Takes frames and returns labels, with the time of each stage. For one thread or one pipeline at a time."""

    @property
    def card(self) -> Card:
        """The network that makes the labels."""
        ...

    @property
    def info(self) -> EngineInfo:
        """What actually runs; raises UsageError until `prepare` was called or a frame was submitted."""
        ...

    @property
    def budget(self) -> ThreadBudget:
        """How threads are shared among all that works for it, the decoder of its frames included."""
        ...

    @property
    def policy(self) -> Policy | None:
        """How it wants its frames; None: as usual for the source."""
        ...

    def claim(self) -> None:
        """Reserves it for one user until `release`; raises UsageError if it is in use."""

    def release(self) -> None:
        """Ends what `claim` began."""

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        """Loads what frames of this size need, with at most so many in flight; does nothing if it is already loaded."""
        ...

    def resize(self, image: np.ndarray) -> np.ndarray | None:
        """Prepares the `resized` of `submit`, for a thread with time to spare; None: `submit` does it itself."""

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        """Starts a frame, which must not change until it is collected; up to `info.in_flight` may be started."""

    def collect(self) -> Labelled:
        """The result for the oldest frame in flight; raises EngineError if there is none."""
        ...

    def discard(self) -> None:
        """Waits for the frames in flight and discards their labels."""

    def close(self) -> None:
        """Frees its resources once nobody has claimed it; a second call does nothing."""
