"""Stops a network at an early exit: always at the same one, or once it is sure enough of a frame (BranchyNet)."""

from typing import NamedTuple

import numpy as np

from rtseg.core.runspec import AUTO, RunSpec
from rtseg.core.sizes import Size
from rtseg.engines.run import Run
from rtseg.live.labellers.refining import Refining
from rtseg.live.labellers.stage import stage
from rtseg.live.labellers.stopping import Stopping
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.confidence import confidence
from rtseg.pictures.entropy import mean_entropy
from rtseg.pictures.upsample import upsample_labels


def open_labeller(spec: RunSpec) -> Segmenter | Stopping:
    """The labeller that a spec asks for: the whole network or an early exit; raises what `Segmenter` does."""
    segmenter = Segmenter(spec)
    if spec.exit is None:
        return segmenter
    regions = segmenter.card.find_regions(spec.exit)
    return EarlyExit(segmenter, spec.exit) if regions is None else Refining(segmenter, *regions)


class EarlyExit(Stopping):
    """Labels by the logits of an early exit.

    Args:
        segmenter: of a `RunSpec` with `exit`, which makes it load the chain of graphs.
        exit: the name of the exit for every frame; or 'auto': a frame stops at the first exit where its mean
            entropy is below the card's threshold.

    Raises:
        UsageError: the network has no such exit, or no threshold for 'auto'.
    """

    def __init__(self, segmenter: Segmenter, exit: str) -> None:
        segmenter.card.check_exit(exit)
        super().__init__(segmenter)
        self._exit = exit
        self._thresholds = {each.name: each.threshold for each in segmenter.card.exits}

    def _labels(self, run: Run, size_hw: Size, stages_s: dict[str, float]) -> tuple[np.ndarray, str]:
        with stage(stages_s, "engine"):
            logits = run.logits()
            while run.more and not self._stops(run.exit, logits):
                logits = run.logits()
        with stage(stages_s, "upsample"):
            return self._upsampled(logits, size_hw), run.exit

    def _stops(self, name: str, logits: np.ndarray) -> bool:
        if self._exit != AUTO:
            return name == self._exit
        threshold = self._thresholds[name]
        return threshold is not None and mean_entropy(logits) < threshold


class AtExit(NamedTuple):
    """The result of an exit for a picture.

    Attributes:
        labels: uint8 (H, W).
        entropy: mean over the exit's cells, 0 to 1.
        sure: float32 (h, w), the probability of the best class in each cell of the exit's logits.
    """

    labels: np.ndarray
    entropy: float
    sure: np.ndarray


def every_exit(segmenter: Segmenter, image: np.ndarray) -> list[AtExit]:
    """The result of every exit of a network for a picture.

    Args:
        segmenter: of a `RunSpec` with `exit`.
        image: uint8 BGR (H, W, 3).
    """
    size_hw = (image.shape[0], image.shape[1])
    threads = segmenter.prepare(size_hw).threads
    run, found = segmenter.engine.start(segmenter.input(image)), []
    while run.more:
        logits = run.logits()
        sure = confidence(logits, (logits.shape[1], logits.shape[2]), threads=threads)
        found.append(AtExit(upsample_labels(logits, size_hw, threads=threads), mean_entropy(logits), sure))
    return found
