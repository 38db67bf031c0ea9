"""Stops a network at an early exit: at the same one always, or as soon as it is sure enough of a frame (BranchyNet)."""

from collections import deque
from time import perf_counter

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.errors import EngineError
from rtseg.core.frame import Frame, Labelled
from rtseg.core.runspec import AUTO, RunSpec
from rtseg.engines import EngineInfo
from rtseg.live.labellers.wrapper import Wrapper
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.entropy import mean_entropy
from rtseg.pictures.upsample import upsample_labels


def open_labeller(spec: RunSpec) -> "Segmenter | EarlyExit":
    """What a spec asks for: a network to its end, or to an exit; raises what `Segmenter` does."""
    segmenter = Segmenter(spec)
    return segmenter if spec.exit is None else EarlyExit(segmenter, spec.exit)


class EarlyExit(Wrapper):
    """Labels by the logits of an early exit; one frame at a time, whatever is allowed.

    Args:
        segmenter: of a `RunSpec` with `exit`, so that it loads the chain of graphs.
        exit: a name, where every frame stops; or 'auto': a frame stops at the first exit where its mean entropy is
            below the card's threshold.

    Raises:
        UsageError: the network has no such exit, or 'auto' and no threshold.
    """

    def __init__(self, segmenter: Segmenter, exit: str) -> None:
        segmenter.card.check_exit(exit)
        super().__init__(segmenter)
        self._segmenter, self._exit = segmenter, exit
        self._thresholds = {each.name: each.threshold for each in segmenter.card.exits}
        self._arrays = ArrayPool()
        self._waiting: deque[tuple[Frame, np.ndarray | None]] = deque()

    def prepare(self, frame_hw: tuple[int, int], most_in_flight: int = 1) -> EngineInfo:
        return self._segmenter.prepare(frame_hw)

    def submit(self, frame: Frame, resized: np.ndarray | None = None) -> None:
        self.prepare(frame.size_hw)
        self._waiting.append((frame, resized))

    def collect(self) -> Labelled:
        if not self._waiting:
            raise EngineError("no picture is in flight: call submit() first")
        frame, resized = self._waiting.popleft()
        start = perf_counter()
        resized = self._segmenter.input(frame.image, resized)
        ready = perf_counter()
        run = self._segmenter.engine.start(resized)
        logits = run.logits()
        while run.more and not self._stops(run.exit, logits):
            logits = run.logits()
        inferred = perf_counter()
        labels = upsample_labels(logits, frame.size_hw, self._arrays.take(frame.size_hw), threads=self.info.threads)
        stages_s = {"resize": ready - start, "engine": inferred - ready, "upsample": perf_counter() - inferred}
        return Labelled(labels, stages_s, exit=run.exit)

    def _stops(self, name: str, logits: np.ndarray) -> bool:
        if self._exit != AUTO:
            return name == self._exit
        threshold = self._thresholds[name]
        return threshold is not None and mean_entropy(logits) < threshold

    def discard(self) -> None:
        self._waiting.clear()


def every_exit(segmenter: Segmenter, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Labels uint8 (H, W) and mean entropy at every exit of a network, for uint8 BGR (H, W, 3).

    Args:
        segmenter: of a `RunSpec` with `exit`.
        image: the picture.
    """
    size_hw = (image.shape[0], image.shape[1])
    segmenter.prepare(size_hw)
    run, found = segmenter.engine.start(segmenter.input(image)), []
    while run.more:
        logits = run.logits()
        found.append((upsample_labels(logits, size_hw, threads=segmenter.info.threads), mean_entropy(logits)))
    return found
