"""Refines only the regions where an early exit is unsure (ADP-C).

ADP-C (Liu et al. 2022, "Anytime Dense Prediction with Confidence Adaptivity", ICLR, arXiv 2104.00749) continues only
where an exit is not confident. Its released code masks a dense convolution, which saves no time.

Deviation: here, unsure tiles are cut out of the exit's features, with the halo that the rest of the network needs, and
run as one dense batch. So features next to a sure region are exact, where ADP-C interpolates them; and whole tiles
continue, where ADP-C decides cell by cell.
"""

import numpy as np

from rtseg.core.card import Exit
from rtseg.core.exits import REGIONS, Regions
from rtseg.core.sizes import Size
from rtseg.engines import EngineInfo
from rtseg.engines.run import Run
from rtseg.live.labellers.stage import stage
from rtseg.live.labellers.stopping import Stopping
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.confidence import confidence
from rtseg.pictures.tiles import Tiling


class Refining(Stopping):
    """Uses an early exit's labels where it is sure and the last exit's labels elsewhere.

    A frame without unsure tiles stops at the exit. If the parts around unsure tiles have as many pixels as the picture,
    the whole picture continues instead.

    Args:
        segmenter: of a `RunSpec` with `exit`, which makes it load the chain of graphs.
        exit: where regions may stop; it has a halo.
        regions: which regions may stop.
    """

    def __init__(self, segmenter: Segmenter, exit: Exit, regions: Regions) -> None:
        super().__init__(segmenter)
        self._exit, self._regions = exit, regions
        self._tiling: Tiling | None = None

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        info = super().prepare(frame_hw)
        if self._tiling is None:
            assert self._exit.halo is not None
            self._tiling = Tiling(info.size_hw, self._regions.tile_hw, self._exit.halo)
            if self._tiling.work(1) < 1:  # otherwise no part is ever run
                run = self._segmenter.engine.start(np.zeros((*info.size_hw, 3), np.uint8))
                self._early(run)
                run.parts([(0, 0)], self._tiling.part_hw)
        return info

    def _early(self, run: Run) -> np.ndarray:
        """The exit's logits."""
        logits = run.logits()
        while run.exit != self._exit.name:
            logits = run.logits()
        return logits

    def _labels(self, run: Run, size_hw: Size, stages_s: dict[str, float]) -> tuple[np.ndarray, str]:
        assert self._tiling is not None  # `submit` made it
        with stage(stages_s, "engine"):
            logits = self._early(run)
            sure = confidence(logits, (logits.shape[1], logits.shape[2]), threads=self.info.threads)
            least = self._tiling.least(sure)
            unsure = [tile for tile, value in zip(self._tiling.tiles, least, strict=True) if value < self._regions.sure]
            whole = self._tiling.work(len(unsure)) == 1
            while whole and run.more:
                logits = run.logits()
        with stage(stages_s, "upsample"):
            labels = self._upsampled(logits, size_hw)
        if whole or not unsure:
            return labels, run.exit
        with stage(stages_s, "engine"):
            parts = run.parts([self._tiling.corner(tile) for tile in unsure], self._tiling.part_hw)
        with stage(stages_s, "upsample"):
            refined = self._upsampled(self._tiling.join(parts, unsure), size_hw)
            for tile in unsure:
                pixels = self._tiling.pixels(tile, size_hw).slices
                labels[pixels] = refined[pixels]
        return labels, REGIONS
