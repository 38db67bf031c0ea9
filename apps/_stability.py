"""How stable labels are on a video, frame by frame and averaged over time: `rtseg eval --stability`."""

from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from rtseg.apps._console import tracked
from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.engines import EngineInfo
from rtseg.live.api import stream
from rtseg.live.labellers.steady import Steady
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.consistency import Consistency, Flow
from rtseg.metrics.stability import Stability
from rtseg.pictures.upsample import upsample_labels
from rtseg.sources.base import Source
from rtseg.sources.open import open_source

_FRAMES_OF_ENDLESS = 300
_Both = Generator[tuple[Frame, np.ndarray, np.ndarray], None, None]  # a frame, its own labels, and averaged labels


class _Measured:
    """The measurements for one way to label the frames."""

    def __init__(self, labels: LabelSet) -> None:
        self.stability, self._consistency = Stability(labels), Consistency(labels)

    def update(self, frame: Frame, labels: np.ndarray, places: np.ndarray | None) -> None:
        self.stability.update(frame, labels)
        self._consistency.update(labels, places)

    def to_json(self) -> dict[str, Any]:
        return {**self.stability.to_json(), **self._consistency.to_json()}


def measure_stability(name: str, frames: int | None, spec: RunSpec, steady: bool) -> tuple[dict[str, Any], EngineInfo]:
    """The stability of the labels on a source, and what was run; "steady" is that of the averaged labels."""
    with open_source(name) as source, Segmenter(spec) as segmenter:
        count = frames or (_FRAMES_OF_ENDLESS if source.endless else None)
        flow, plain = Flow(), _Measured(segmenter.labels)
        averaged = _Measured(segmenter.labels) if steady else None
        title, total = f"stability on {source.name}", count or source.frame_count
        labelled = _both(source, segmenter) if steady else _plain(source, segmenter)
        with closing(labelled):  # ends the threads before the segmenter is closed
            for frame, labels, steadied in tracked(islice(labelled, count), title, total):
                places = flow(frame)
                plain.update(frame, labels, places)
                if averaged is not None:
                    averaged.update(frame, steadied, places)
        info = segmenter.info
        figures = {"source": source.name, "size": list(info.size_hw), **plain.to_json()}
    if not plain.stability.pairs:
        raise UsageError(f"{source.name} gave {plain.stability.frames} frames and no two that follow one another: "
                         "stability needs a video")  # fmt: skip
    return {**figures, **({"steady": averaged.to_json()} if averaged is not None else {})}, info


def _plain(source: Source, segmenter: Segmenter) -> _Both:
    with closing(stream(source, segmenter)) as labelled:
        for frame, labels in labelled:
            yield frame, labels, labels


def _both(source: Source, segmenter: Segmenter) -> _Both:
    """Each frame's own labels and labels averaged over time, from one run of the network."""
    steady = Steady(segmenter.card.logits_stride)
    for frame in source:
        logits = segmenter.logits(frame)
        resized = segmenter.input(frame.image)
        labels = upsample_labels(logits, frame.size_hw)
        yield frame, labels, upsample_labels(steady(frame.index, resized, logits), frame.size_hw)
