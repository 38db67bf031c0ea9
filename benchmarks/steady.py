"""What steady labels, confidence and reuse are worth, and what they cost.

    python benchmarks/steady.py --root CAMVID                     # writes benchmarks/results/steady.json
    python benchmarks/steady.py --root CAMVID --model swiftnet --still parking.mp4 --json my.json

On CamVid's val, seven seconds of a drive, labels are scored as they come and averaged over time: mIoU and boundary F1,
also of the moving classes alone, flips on still pixels and consistency along the flow; and, since the street itself
moves there, the flips of the truth. Then the time that each step takes for a frame of 1024x2048. Then a camera that
does not move, a video or a picture of CamVid with a camera's noise: flips, frames on which the network did not run, and
how many pixels have the label that it would have given.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cyclopts import App, Parameter

from rtseg.apps._console import run
from rtseg.apps.evaluate import EvalOptions, score
from rtseg.core.files import write_json
from rtseg.core.frame import Frame
from rtseg.core.runspec import RunSpec
from rtseg.core.timing import Durations
from rtseg.datasets import DataSet, open_data
from rtseg.live.environment import environment
from rtseg.live.labellers.scoring import Scoring
from rtseg.live.labellers.steady import Steady
from rtseg.live.labellers.still import Still
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.stability import STILL_BELOW, Stability
from rtseg.pictures.confidence import as_levels, confidence
from rtseg.sources.open import open_source

app = App(help=__doc__)
RESULT = Path(__file__).parent / "results" / "steady.json"
MOVING = ("car", "pedestrian", "cyclist")
NOISE = 2.0  # standard deviation, grey levels
FRAMES, WARM_UP = 100, 10


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        root: CamVid's folder.
        model: A network.
        engine: Its engine.
        threads: Its threads.
        still: A video of a camera that does not move.
        json: Write the figures to this file.
    """

    root: Path
    model: str = "icnet"
    engine: str = "onnxruntime"
    threads: int | None = None
    still: str | None = None
    json: Path = RESULT


def on_camvid(options: Options) -> dict[str, Any]:
    wish = EvalOptions(
        model=options.model, data="camvid", root=options.root, split="val", engine=options.engine,
        threads=options.threads, steady=True, stability=str(options.root / "val"),
    )  # fmt: skip
    figures = score(wish)
    figures["stability"]["source"] = "val"  # instead of its path on this machine
    for way in (figures, figures["steady"]):
        way["moving"] = {key: round(float(np.mean([way[of][name] for name in MOVING])), 4)
                         for key, of in (("miou", "iou"), ("boundary_f1", "boundary_f1_by_class"))}  # fmt: skip
    return {**figures, "flip_share_of_truth": flips_of_truth(open_data("camvid", options.root, "val"))}


def flips_of_truth(data: DataSet) -> float:
    """Share of still pixels, labelled in both frames, whose true class changes."""
    still = flips = 0
    before = data.sample(0)
    for index in range(1, len(data)):
        sample = data.sample(index)
        change = cv2.absdiff(*(cv2.cvtColor(one.image, cv2.COLOR_BGR2GRAY) for one in (sample, before)))
        known = np.maximum(sample.labels, before.labels) != data.labels.ignore_index
        counted = (change < STILL_BELOW) & known
        still += int(counted.sum())
        flips += int((counted & (sample.labels != before.labels)).sum())
        before = sample
    return round(flips / still, 4)


def times(spec: RunSpec) -> dict[str, Any]:
    """Milliseconds of each step, run alone, for a frame of 1024x2048."""
    with Segmenter(spec) as segmenter, open_source("synthetic", size_hw=(1024, 2048)) as source:
        frames = list(islice(source, 8))
        segmenter.prepare(frames[0].size_hw)
        steady, durations = (
            Steady(segmenter.card.logits_stride),
            {name: Durations() for name in ("steady", "confidence")},
        )
        made = [(segmenter.resize(frame.image), segmenter.logits(frame)) for frame in frames]
        for turn in range(-WARM_UP, FRAMES):
            small, logits = made[turn % len(made)]
            assert small is not None
            if turn < 0:
                steady(turn + WARM_UP, small, logits)
                confidence(logits, (1024, 2048), threads=segmenter.info.threads)
                continue
            with durations["steady"].measure():
                steady(turn + WARM_UP, small, logits)
            with durations["confidence"].measure():
                as_levels(confidence(logits, (1024, 2048), threads=segmenter.info.threads))
        return {
            "logits": list(made[0][1].shape),
            "threads": segmenter.info.threads,
            **{f"{name}_ms": one.summary_ms() for name, one in durations.items()},
        }


def still_frames(options: Options) -> Iterator[Frame]:
    if options.still is not None:
        with open_source(options.still) as source:
            yield from islice(source, FRAMES)
        return
    rng, sample = np.random.default_rng(0), open_data("camvid", options.root, "val").sample(0)
    for index in range(FRAMES):
        noisy = np.rint(sample.image + rng.normal(0, NOISE, sample.image.shape))
        yield Frame(np.clip(noisy, 0, 255).astype(np.uint8), index, index / 30, 0.0)


def on_a_still_camera(options: Options, spec: RunSpec) -> dict[str, Any]:
    """Flips of the three ways, and what reuse saves and costs."""
    plain = Segmenter(spec)
    stride = plain.card.logits_stride
    ways = {"plain": plain, "steady": Scoring(Segmenter(spec), steady=Steady(stride)), "reuse": Still(Segmenter(spec))}
    stability = {name: Stability(plain.labels) for name in ways}
    same, reused, count = 0.0, 0, 0
    try:
        for frame in still_frames(options):
            labels = {}
            for name, way in ways.items():
                way.prepare(frame.size_hw)
                way.submit(frame)
                made = way.collect()
                labels[name] = made.labels
                stability[name].update(frame, made.labels)
                reused += name == "reuse" and "engine" not in made.stages_s
            same += float((labels["reuse"] == labels["plain"]).mean())
            count += 1
    finally:
        for way in ways.values():
            way.close()
    shares = {name: one.to_json()["flip_share"] for name, one in stability.items()}
    of = str(options.still) if options.still is not None else f"a picture of CamVid with noise of {NOISE:g} grey levels"
    return {"source": of, "frames": count, "flip_share": shares, "reused": reused, "agreement_of_reuse": same / count}


@app.default
def main(options: Options) -> None:
    spec = RunSpec(options.model, options.engine, "fp32", None, options.threads)
    figures = {
        "camvid_val": on_camvid(options),
        "times_1024x2048": times(spec),
        "still_camera": on_a_still_camera(options, spec),
        "environment": environment(),
    }
    write_json(options.json, figures)


if __name__ == "__main__":
    run(app)
