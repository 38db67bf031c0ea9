"""`rtseg eval` on a data set: the network in real time, averaged over scales, averaged over time."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rtseg.apps._console import tracked
from rtseg.core.runspec import RunSpec

if TYPE_CHECKING:
    import numpy as np

    from rtseg.apps.evaluate import EvalOptions
    from rtseg.core.card import Card
    from rtseg.datasets import DataSet
    from rtseg.engines import EngineInfo
    from rtseg.live.segmenter import Segmenter
    from rtseg.metrics.evaluate import Scored


def score_data(options: "EvalOptions", spec: RunSpec, data: "DataSet") -> dict[str, Any]:
    """Scores the network as it runs in real time, on the whole split."""
    from rtseg.live.segmenter import Segmenter
    from rtseg.sinks.base import write_picture

    with Segmenter(spec) as segmenter:
        if options.calibrate:
            from rtseg.apps._calibrate import fit_temperature

            segmenter.card = replace(segmenter.card, temperature=fit_temperature(spec, data))
        figures = _compare(segmenter, data, options.boundary_tolerance, segmenter)
        figures |= about(segmenter.card, segmenter.info)
        if options.picture is not None:
            write_picture(options.picture, _draw(segmenter, data))
    return {**figures, "data": options.data_set, "split": options.split}


def _draw(segmenter: "Scored", data: "DataSet", rows: int = 4) -> "np.ndarray":
    """Picture, ground truth and prediction of some pictures, one row each: uint8 BGR."""
    from rtseg.pictures.comparison import beside_truth, stacked

    samples = [data.sample(index) for index in data.spread(rows)]
    return stacked([beside_truth(s.image, s.labels, segmenter(s.image), data.labels) for s in samples])


def score_averaged(options: "EvalOptions", spec: RunSpec, data: "DataSet") -> dict[str, Any]:
    """Scores the network averaged over scales and mirror images, on the whole split."""
    from rtseg.live.labellers.averaging import Averaging
    from rtseg.live.segmenter import Segmenter

    with Averaging(Segmenter(spec), options.factors, options.flip) as segmenter:
        figures = _compare(segmenter, data, options.boundary_tolerance)
        sizes = [list(size_hw) for size_hw in segmenter.sizes]
    return {**figures, "flip": options.flip, "scales": list(options.factors), "sizes": sizes}


def score_steady(options: "EvalOptions", spec: RunSpec, data: "DataSet") -> dict[str, Any]:
    """Scores the network averaged over time, on the whole split as if it were a video."""
    from rtseg.live.labellers.scoring import Scoring
    from rtseg.live.labellers.steady import Steady
    from rtseg.live.segmenter import Segmenter

    segmenter = Segmenter(spec)
    with Scoring(segmenter, steady=Steady(segmenter.card.logits_stride)) as labeller:
        return _compare(labeller, data, options.boundary_tolerance)


def _compare(
    labeller: "Scored", data: "DataSet", boundary_tolerance: float, segmenter: "Segmenter | None" = None
) -> dict[str, Any]:
    """mIoU, pixel accuracy and boundary F1 on the whole split; with a segmenter that has scores, also calibration."""
    from rtseg.metrics.boundary import BoundaryF1
    from rtseg.metrics.calibration import Calibration
    from rtseg.metrics.evaluate import evaluate

    boundary = BoundaryF1(data.labels, boundary_tolerance)
    pictures = tracked(data, f"{data.name} {data.split}", len(data))
    if segmenter is None or segmenter.card.gives_labels:
        return {**evaluate(labeller, pictures, data.labels, boundary).to_json(), **boundary.to_json()}
    at_one, tempered = Calibration(data.labels), Calibration(data.labels, segmenter.card.temperature)
    both = (at_one, tempered) if segmenter.card.temperature != 1 else (tempered,)
    matrix = evaluate(labeller, pictures, data.labels, boundary, calibrations=both,
                      with_logits=partial(_with_logits, segmenter))  # fmt: skip
    figures = {**matrix.to_json(), **boundary.to_json(), **tempered.to_json()}
    return {**figures, **({"ece_at_temperature_1": at_one.to_json()["ece"]} if at_one in both else {})}


def _with_logits(segmenter: "Segmenter", image: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Labels and logits, from one run on a CPU; on a GPU, which makes its own labels, from two runs."""
    from rtseg.engines import TABLE
    from rtseg.pictures.upsample import upsample_labels

    logits = segmenter.logits(image)
    if TABLE[segmenter.info.engine].on_gpu:
        return segmenter(image), logits
    return upsample_labels(logits, (image.shape[0], image.shape[1]), threads=segmenter.info.threads), logits


def about(card: "Card", info: "EngineInfo") -> dict[str, Any]:
    """What was run."""
    return {
        "model": card.name,
        "engine": info.engine,
        "runtime": info.runtime,
        "device": info.device,
        "precision": info.precision,
        "size": list(info.size_hw),
        "threads": info.threads,
        # a GPU engine makes FP16 from the FP32 file
        "sha256": card.files.get(info.precision, card.files["fp32"]).sha256,
    }
