"""Stops a network at an early exit: at the same one always, or as soon as it is sure enough of a frame (BranchyNet)."""

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
    """What a spec asks for: a network to its end, or to an exit; raises what `Segmenter` does."""
    segmenter = Segmenter(spec)
    if spec.exit is None:
        return segmenter
    regions = segmenter.card.find_regions(spec.exit)
    return EarlyExit(segmenter, spec.exit) if regions is None else Refining(segmenter, *regions)


class EarlyExit(Stopping):
    """Labels by the logits of an early exit.

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
    """What an exit makes of a picture.

    Attributes:
        labels: uint8 (H, W).
        entropy: the mean over its cells, 0 to 1.
        sure: float32 (h, w), the probability of the best class of each cell of its logits.
    """

    labels: np.ndarray
    entropy: float
    sure: np.ndarray


def every_exit(segmenter: Segmenter, image: np.ndarray) -> list[AtExit]:
    """What every exit of a network makes of uint8 BGR (H, W, 3).

    Args:
        segmenter: of a `RunSpec` with `exit`.
        image: the picture.
    """
    size_hw = (image.shape[0], image.shape[1])
    threads = segmenter.prepare(size_hw).threads
    run, found = segmenter.engine.start(segmenter.input(image)), []
    while run.more:
        logits = run.logits()
        sure = confidence(logits, (logits.shape[1], logits.shape[2]), threads=threads)
        found.append(AtExit(upsample_labels(logits, size_hw, threads=threads), mean_entropy(logits), sure))
    return found
