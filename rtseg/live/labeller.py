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
    """Collects what is in flight, until nothing is, and throws it away."""
    while in_flight:
        try:
            collect()
        except Exception as error:  # whatever it is: what made the caller give up is reported already
            _log.debug("a frame that nobody waits for failed: %s", error)


def stalled(labeller: "Labeller") -> StalledError:
    """What a labeller that does not answer any more has done."""
    info = labeller.info
    return StalledError(
        f"{labeller.card.name} on {info.engine} ({info.device}) has not answered for {MOST_S:.0f} s: the device or its "
        "driver may hang; start again, and run rtseg doctor if it comes back"
    )


class Labeller(Protocol):
    """A frame in; labels, and what each stage took, out. For one thread or one pipeline at a time."""

    @property
    def card(self) -> Card:
        """The network that makes the labels."""
        ...

    @property
    def info(self) -> EngineInfo:
        """What really runs; raises UsageError until `prepare` was called or a frame was submitted."""
        ...

    @property
    def budget(self) -> ThreadBudget:
        """The threads of everything that works for it, the decoder of its frames included."""
        ...

    @property
    def policy(self) -> Policy | None:
        """How frames are to be fed to it; None: as suits the source."""
        ...

    def claim(self) -> None:
        """Keeps it for one user until `release`; raises UsageError where it is in use."""

    def release(self) -> None:
        """Ends what `claim` began."""

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        """Loads what frames of a size need, for so many in flight at most; does nothing where it is loaded."""
        ...

    def resize(self, image: np.ndarray) -> np.ndarray | None:
        """What `submit` takes as `resized`, for a thread that has time for it; None: `submit` does it itself."""

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        """Starts a frame, which must stay as it is until it is collected; up to `info.in_flight` may be started."""

    def collect(self) -> Labelled:
        """What became of the oldest frame in flight; raises EngineError where there is none."""
        ...

    def discard(self) -> None:
        """Waits for the frames in flight and throws their labels away."""

    def close(self) -> None:
        """Frees what it holds, once nobody has claimed it; a second call does nothing."""
