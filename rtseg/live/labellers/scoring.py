"""Labels made from the network's scores outside its engine: smoothed over time, with a confidence, or both."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.card import Card
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Frame, Labelled
from rtseg.core.sizes import Size
from rtseg.engines import EngineInfo
from rtseg.live.labeller import Labeller, drain
from rtseg.live.labellers.stage import stage
from rtseg.live.labellers.steady import WINDOW, Steady
from rtseg.live.labellers.wrapper import Wrapper
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.confidence import as_levels, confidence
from rtseg.pictures.upsample import upsample_labels


def check_scores(card: Card) -> None:
    """Raises UsageError for a network that outputs labels but no scores."""
    if card.gives_labels:
        raise UsageError(
            f"{card.name} gives labels, not scores: there is nothing to average over time, and no confidence; import "
            "it again with an output before its argmax"
        )


def scored(
    segmenter: Labeller, *, steady: bool = False, confident: bool = False, window: int | None = WINDOW
) -> Labeller:
    """Wraps a segmenter as asked; returns it unchanged if nothing is asked for.

    Args:
        segmenter: one that runs its network to the end; commands refuse an early exit with the other arguments.
        steady: average over time.
        confident: return every pixel's confidence too.
        window: see `Steady`.

    Raises:
        UsageError: a network that outputs labels but no scores.
    """
    if not (steady or confident):
        return segmenter
    assert isinstance(segmenter, Segmenter)
    average = Steady(segmenter.card.logits_stride, window) if steady else None
    return Scoring(segmenter, steady=average, confident=confident)


@dataclass(frozen=True)
class _Started:
    frame: Frame
    resized: np.ndarray
    stages_s: dict[str, float]


class Scoring(Wrapper):
    """Takes the logits of a `Segmenter`, averages them over time if asked for, and makes labels of them.

    It expects the frames of one video in order. A GPU engine must copy its logits to the host and takes one frame at a
    time.
    """

    def __init__(self, segmenter: Segmenter, *, steady: Steady | None = None, confident: bool = False) -> None:
        """Sets up.

        Args:
            segmenter: what runs the network.
            steady: the average over time, which no other labeller may use; None: each frame on its own.
            confident: return every pixel's confidence too, at the card's temperature.

        Raises:
            UsageError: a network that outputs labels but no scores.
        """
        check_scores(segmenter.card)
        super().__init__(segmenter)
        self._segmenter = segmenter
        self._steady = steady
        self._confident = confident
        self._arrays = ArrayPool()
        self._started: deque[_Started] = deque()

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        info = self._segmenter.prepare(frame_hw, most_in_flight)
        from rtseg.pictures import _changes_kernel, _confidence_kernel  # noqa: F401 (compiled now, not at the first frame)

        return info

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        self._segmenter.prepare(frame.size_hw)
        stages_s: dict[str, float] = {}
        with stage(stages_s, "resize"):
            resized = self._segmenter.input(frame.image, resized)
        self._segmenter.engine.submit_logits(resized)
        self._started.append(_Started(frame, resized, stages_s))

    def collect(self) -> Labelled:
        if not self._started:
            raise EngineError("no picture is in flight: call submit() first")
        started = self._started.popleft()
        logits, engine_s = self._segmenter.engine.collect_logits()
        stages_s = {**started.stages_s, **engine_s}
        if self._steady is not None:
            with stage(stages_s, "steady"):
                logits = self._steady(started.frame.index, started.resized, logits)
        size_hw, threads = started.frame.size_hw, self.info.threads
        with stage(stages_s, "upsample"):
            labels = upsample_labels(logits, size_hw, self._arrays.take(size_hw), threads=threads)
        if not self._confident:
            return Labelled(labels, stages_s)
        with stage(stages_s, "confidence"):
            sure = as_levels(confidence(logits, size_hw, self.card.temperature, threads=threads))
        return Labelled(labels, stages_s, sure)

    def discard(self) -> None:
        drain(self._started, self.collect)
        if self._steady is not None:
            self._steady.forget()  # another video may follow
