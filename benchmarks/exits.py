"""What early exits are worth on this machine: stopping at one, leaving early, refining unsure regions, a smaller input.

    rtseg eval --model NET.onnx --data camvid --root CAMVID --split SPLIT --calibrate-exits 0.002
    python benchmarks/exits.py --model NET.onnx --root CAMVID --json benchmarks/results/exits.json

NET is a network with exits. Calibrate on one drive and measure on another. The smaller input is the same network as
one graph: what the others must beat. Beside the regions that were calibrated there are those of least arithmetic for
several losses of mIoU, chosen on the very pictures that are measured, which favours them. All forms see each picture in
turn, so that what slows the machine slows all of them. Times are in ms, of the engine with what decides, and of that
with the upsampling to the picture's size. The last table says what a smaller halo would do to the labels.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import App
from rich.console import Console
from rich.table import Table

from rtseg.apps._console import run
from rtseg.core.card import Card
from rtseg.core.files import write_json
from rtseg.core.frame import Frame, Labelled
from rtseg.core.runspec import AUTO, RunSpec
from rtseg.core.sizes import Size, format_size
from rtseg.core.timing import Durations
from rtseg.core.zoo import resolve
from rtseg.datasets import DataSet, open_data
from rtseg.datasets.base import Sample
from rtseg.live.environment import environment
from rtseg.live.labeller import Labeller
from rtseg.live.labellers.early import every_exit, open_labeller
from rtseg.live.labellers.refining import Refining
from rtseg.live.segmenter import Segmenter
from rtseg.live.spec import default_size
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.metrics.exits import NEVER, ExitScores
from rtseg.metrics.regions import Choice, cheapest, region_scores
from rtseg.pictures.tiles import Tiling
from rtseg.pictures.upsample import upsample_labels

app = App(help=__doc__)
SCALES = (1.0, 0.875, 0.75, 0.625, 0.5)
LOSSES = (0.002, 0.005, 0.01, 0.02)  # of mIoU, for which the cheapest regions are chosen
HALOS = (1, 2, 3)  # multiples of the network's size
WARM_UP = 5


class Form:
    """One way to run the network: its times and its confusion matrix.

    Args:
        labeller: runs the network.
        gmac: mean per picture.
        data: the split.
    """

    def __init__(self, labeller: Labeller, gmac: float, data: DataSet) -> None:
        self.labeller, self.gmac = labeller, gmac
        self.engine, self.labels = Durations(100_000), Durations(100_000)
        self.matrix = ConfusionMatrix(data.labels)
        self.stopped: dict[str, int] = {}
        labeller.prepare(data.size_hw)
        for _ in range(WARM_UP):
            self._label(np.zeros((*data.size_hw, 3), np.uint8))

    def _label(self, image: np.ndarray) -> Labelled:
        self.labeller.submit(Frame(image, 0, 0.0, 0.0))
        return self.labeller.collect()

    def picture(self, sample: Sample) -> None:
        made = self._label(sample.image)
        self.engine.add(made.stages_s["engine"])
        self.labels.add(made.stages_s["engine"] + made.stages_s["upsample"])
        self.matrix.update(made.labels, sample.labels)
        self.stopped[made.exit] = self.stopped.get(made.exit, 0) + 1

    def to_json(self) -> dict[str, Any]:
        stopped = {"stopped": self.stopped} if set(self.stopped) != {""} else {}
        return {"engine_ms": self.engine.summary_ms(), "labels_ms": self.labels.summary_ms(),
                "gmac": round(self.gmac, 2), "miou": round(self.matrix.miou, 4), **stopped}  # fmt: skip


class Seen:
    """The outputs of all exits of a network on some pictures, and the results for the forms that choose."""

    def __init__(self, spec: RunSpec, card: Card, data: DataSet, every: int) -> None:
        assert spec.size_hw is not None
        self.card, self.size_hw = card, spec.size_hw
        names = [each.name for each in card.exits]
        self.exits = ExitScores(data.labels, names, [each.gmac_1024x2048 for each in card.exits])
        tried, kept = (region_scores(card, spec.size_hw, calibrate) for calibrate in (True, False))
        with Segmenter(replace(spec, exit=names[-1])) as segmenter:
            for sample in pictures(data, every):
                found = every_exit(segmenter, sample.image)
                labels, sure = [each.labels for each in found], [each.sure for each in found]
                self.exits.update(labels, [each.entropy for each in found], sample.labels)
                for scores in (tried, kept):
                    scores.update(labels, sure, sample.labels)
        self.regions = dict(zip(["regions as calibrated"], kept.choices(), strict=False))  # there may be none
        for loss in LOSSES:
            choice = cheapest(tried.choices(), self.exits.at(-1).miou - loss)
            if choice is not None:
                self.regions[f"regions chosen here for a loss of {loss:g}"] = choice

    def gmac(self, gmac_1024x2048: float, size_hw: Size | None = None) -> float:
        height, width = size_hw or self.size_hw
        return gmac_1024x2048 * height * width / (1024 * 2048)

    def leaving_gmac(self) -> float:
        return self.gmac(self.exits.leaving([each.threshold or NEVER for each in self.card.exits[:-1]])[2])


def pictures(data: DataSet, every: int) -> Iterator[Sample]:
    """Every n-th picture of a split."""
    for index in range(0, len(data), every):
        yield data.sample(index)


def open_forms(spec: RunSpec, seen: Seen, data: DataSet, stack: ExitStack) -> dict[str, Form]:
    """All forms, loaded and warmed up."""
    card, forms = seen.card, dict[str, Form]()
    for scale in SCALES:
        segmenter = stack.enter_context(Segmenter(spec).at_scale(scale, data.size_hw))
        size_hw = segmenter.prepare(data.size_hw).size_hw
        forms[f"one graph, {format_size(size_hw)}"] = Form(segmenter, seen.gmac(card.gmac_1024x2048, size_hw), data)
    for each in card.exits:
        labeller = stack.enter_context(open_labeller(replace(spec, exit=each.name)))
        forms[f"exit {each.name}"] = Form(labeller, seen.gmac(each.gmac_1024x2048), data)
    labeller = stack.enter_context(open_labeller(replace(spec, exit=AUTO)))
    forms["leaving early"] = Form(labeller, seen.leaving_gmac(), data)
    for name, choice in seen.regions.items():
        chain = Segmenter(replace(spec, exit=card.exits[-1].name))
        refining = stack.enter_context(Refining(chain, card.exits[choice.start.number], choice.regions))
        forms[f"{name}: {told(choice)}"] = Form(refining, seen.gmac(choice.cost), data)
    return forms


def told(choice: Choice) -> str:
    """A choice in a few words."""
    regions = choice.regions
    return f"{choice.start.name}, sure from {regions.sure:g}, tiles {format_size(regions.tile_hw)}, " \
           f"{choice.refined:.0%} refined"  # fmt: skip


def halo_errors(spec: RunSpec, card: Card, data: DataSet, every: int) -> dict[str, dict[str, float]]:
    """Exit -> halo in pixels -> share of the pixels whose label changes if every tile is processed separately.

    Tiles are squares of four multiples of the network's size; there are no entries for an exit whose rest sees the
    whole picture.
    """
    found: dict[str, dict[str, float]] = {}
    multiple = card.size_multiple
    with Segmenter(replace(spec, exit=card.exits[-1].name)) as segmenter:
        size_hw = segmenter.prepare(data.size_hw).size_hw
        for number, exit in enumerate(card.exits):
            if exit.halo is None:
                continue
            shares = np.zeros(len(HALOS))
            samples = list(range(0, len(data), every))
            for index in samples:
                run = segmenter.engine.start(segmenter.input(data.sample(index).image))
                for _ in range(number + 1):
                    run.logits()
                joined = []
                for times in HALOS:
                    tiling = Tiling(size_hw, (4 * multiple, 4 * multiple), times * multiple)
                    parts = run.parts([tiling.corner(tile) for tile in tiling.tiles], tiling.part_hw)
                    joined.append(tiling.join(parts, tiling.tiles))
                while run.more:
                    whole = run.logits()
                expected = upsample_labels(whole, size_hw)
                shares += [(upsample_labels(logits, size_hw) != expected).mean() for logits in joined]
            found[exit.name] = {str(times * multiple): round(share, 6) for times, share in
                                zip(HALOS, (shares / len(samples)).tolist(), strict=True)}  # fmt: skip
    return found


def tell(forms: dict[str, Form], halos: dict[str, dict[str, float]]) -> None:
    """Prints the tables."""
    console = Console(highlight=False)
    table = Table("form", "engine ms p50", "labels ms p50", "GMAC", "mIoU")
    for name, form in forms.items():
        ms = (f"{times.percentile_ms(50):.1f}" for times in (form.engine, form.labels))
        table.add_row(name, *ms, f"{form.gmac:.2f}", f"{form.matrix.miou:.4f}")
    console.print(table)
    table = Table("labels that differ with a halo of", *(f"{name}" for name in halos))
    for halo in next(iter(halos.values()), {}):
        table.add_row(f"{halo} pixels", *(f"{shares[halo]:.3%}" for shares in halos.values()))
    if halos:
        console.print(table)


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
    seen = Seen(spec, card, data, every)
    halos = halo_errors(spec, card, data, 10 * every)
    with ExitStack() as stack:
        forms = open_forms(spec, seen, data, stack)
        for sample in pictures(data, every):
            for form in forms.values():
                form.picture(sample)
    tell(forms, halos)
    if json is not None:
        about = {"model": card.name, "sha256": card.files["fp32"].sha256, "split": split, "engine": engine}
        results = {"forms": {name: form.to_json() for name, form in forms.items()}, "labels that differ by halo": halos,
                   "halo": {each.name: each.halo for each in card.exits}}  # fmt: skip
        write_json(json, {"environment": environment(), **about, "size": list(seen.size_hw), "results": results})


if __name__ == "__main__":
    run(app)
