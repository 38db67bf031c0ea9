"""What early exits are worth on this machine: time and mIoU at each exit, leaving early, and a smaller input beside it.

    rtseg eval --model NET.onnx --data camvid --root CAMVID --split SPLIT --calibrate-exits 0.002
    python benchmarks/exits.py --model NET.onnx --root CAMVID --json benchmarks/results/exits.json

NET is a network that was trained with `--set exits=2`. Calibrate on one drive and measure on another. All forms see
each picture in turn, so that what slows the machine slows all of them; times are of the engine alone, in ms, with the
entropy where it decides. The last table is of refining unsure regions only (`rtseg/metrics/regions.py`).
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from cyclopts import App
from rich.console import Console

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.runspec import AUTO, RunSpec
from rtseg.core.sizes import Size
from rtseg.core.timing import Durations
from rtseg.core.zoo import resolve
from rtseg.datasets import DataSet, open_data
from rtseg.live.environment import environment
from rtseg.live.segmenter import Segmenter
from rtseg.live.spec import default_size
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.metrics.exits import NEVER, ExitScores
from rtseg.metrics.regions import refined, tiled_share
from rtseg.pictures.confidence import confidence
from rtseg.pictures.entropy import mean_entropy
from rtseg.pictures.upsample import upsample_labels

app = App(help=__doc__)
SCALES = (1.0, 0.875, 0.75, 0.625, 0.5)
SURE = (0.8, 0.9, 0.95, 0.99)  # probabilities of the best class from which a pixel is not refined
TILES, HALO = (64, 128, 192, 256), 32
WARM_UP = 5


class Form:
    """One way to run the network: its time and its pixels."""

    def __init__(self, data: DataSet) -> None:
        self.times, self.matrix = Durations(100_000), ConfusionMatrix(data.labels)

    def to_json(self, gmac: float) -> dict[str, Any]:
        return {"ms": self.times.summary_ms(), "gmac": round(gmac, 2), "miou": round(self.matrix.miou, 4)}


class Measure:
    """Runs every form on picture after picture.

    Args:
        spec: of a network with exits, its size given.
        data: the split.
        stack: closes the engines.
    """

    def __init__(self, spec: RunSpec, data: DataSet, stack: ExitStack) -> None:
        self.card = resolve(spec.model).card
        self.names = [each.name for each in self.card.exits]
        assert spec.size_hw is not None
        self.size_hw = spec.size_hw
        self.costs = [_gmac(each.gmac_1024x2048, self.size_hw) for each in self.card.exits]
        self.chain = stack.enter_context(Segmenter(replace(spec, exit=self.names[-1])))
        self.whole = [(scale, stack.enter_context(Segmenter(spec).at_scale(scale, data.size_hw))) for scale in SCALES]
        for segmenter in (self.chain, *(segmenter for _, segmenter in self.whole)):
            segmenter.prepare(data.size_hw)
            for _ in range(WARM_UP):
                segmenter.engine.infer(np.zeros((*segmenter.info.size_hw, 3), np.uint8))
        self.exits = {name: Form(data) for name in self.names}
        self.scaled = {scale: Form(data) for scale in SCALES}
        self.auto = Form(data)
        self.scores = ExitScores(data.labels, self.names, self.costs)
        self.regions = {level: Form(data) for level in SURE}
        self.shares: dict[tuple[float, int], list[tuple[float, float]]] = {(s, t): [] for s in SURE for t in TILES}

    def picture(self, image: np.ndarray, truth: np.ndarray) -> None:
        """All forms on one picture."""
        size_hw = (image.shape[0], image.shape[1])
        for scale, segmenter in self.whole:
            resized = segmenter.resize(image)
            assert resized is not None
            start = perf_counter()
            logits = segmenter.engine.infer(resized)
            self.scaled[scale].times.add(perf_counter() - start)
            self.scaled[scale].matrix.update(upsample_labels(logits, size_hw), truth)
        resized = self.chain.resize(image)
        assert resized is not None
        self._exits(resized, truth)
        self._leaving(resized)

    def _exits(self, resized: np.ndarray, truth: np.ndarray) -> None:
        size_hw = (truth.shape[0], truth.shape[1])
        seen, seconds = [], 0.0
        run = self.chain.engine.start(resized)
        while run.more:
            start = perf_counter()
            logits = run.logits()
            seconds += perf_counter() - start
            seen.append((upsample_labels(logits, size_hw), mean_entropy(logits)))
            if len(seen) == 1:
                sure = confidence(logits, size_hw)
            self.exits[run.exit].times.add(seconds)
            self.exits[run.exit].matrix.update(seen[-1][0], truth)
        self.scores.update([labels for labels, _ in seen], [unsure for _, unsure in seen], truth)
        for level, form in self.regions.items():
            form.matrix.update(refined(seen[0][0], sure >= level, seen[-1][0]), truth)
            for tile in TILES:
                self.shares[level, tile].append(tiled_share(sure >= level, tile, HALO))

    def _leaving(self, resized: np.ndarray) -> None:
        start = perf_counter()
        run = self.chain.engine.start(resized)
        logits = run.logits()
        for each in self.card.exits[:-1]:
            if mean_entropy(logits) < (each.threshold or NEVER):
                break
            logits = run.logits()
        self.auto.times.add(perf_counter() - start)

    def to_json(self) -> dict[str, Any]:
        matrix, shares, cost = self.scores.leaving([each.threshold or NEVER for each in self.card.exits[:-1]])
        self.auto.matrix = matrix
        return {
            "exits": {name: self.exits[name].to_json(gmac) for name, gmac in zip(self.names, self.costs, strict=True)},
            AUTO: {**self.auto.to_json(cost), "stopped": dict(zip(self.names, shares, strict=True))},
            "one graph, by scale": {
                f"{scale:g}": {"size": list(segmenter.info.size_hw),
                               **self.scaled[scale].to_json(_gmac(self.card.gmac_1024x2048, segmenter.info.size_hw))}
                for scale, segmenter in self.whole
            },
            "unsure regions": [self._region(level) for level in SURE],
        }  # fmt: skip

    def _region(self, level: float) -> dict[str, Any]:
        tiles = {str(tile): np.mean(self.shares[level, tile], 0).round(3).tolist() for tile in TILES}
        return {"sure_from": level, "miou": round(self.regions[level].matrix.miou, 4), "halo": HALO,
                "tile: [share of tiles, of the work]": tiles}  # fmt: skip


def _gmac(gmac_1024x2048: float, size_hw: Size) -> float:
    return gmac_1024x2048 * size_hw[0] * size_hw[1] / (1024 * 2048)


@app.default
def main(
    *, model: str, root: Path, split: str = "val", engine: str = "onnxruntime", threads: int | None = None,
    every: int = 1, json: Path | None = None,
) -> None:  # fmt: skip
    """Measures one network.

    Args:
        model: Path of its ONNX file, its exits calibrated.
        root: CamVid in SegNet's layout.
        split: Split to measure on.
        engine: One that can stop at exits.
        threads: CPU threads; by default every core.
        every: Take every n-th picture.
        json: Write the figures to this file.
    """
    data = open_data("camvid", root, split)
    card = resolve(model).card
    card.check_exit(AUTO)
    spec = RunSpec(model, engine, "fp32", default_size(card, data.size_hw), threads)
    with ExitStack() as stack:
        measure = Measure(spec, data, stack)
        for index in range(0, len(data), every):
            sample = data.sample(index)
            measure.picture(sample.image, sample.labels)
        results = measure.to_json()
    Console().print(results)
    if json is not None:
        about = {"model": card.name, "sha256": card.files["fp32"].sha256, "split": split, "engine": engine}
        write_json(json, {"environment": environment(), **about, "size": list(measure.size_hw), "results": results})


if __name__ == "__main__":
    run(app)
