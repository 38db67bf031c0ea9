"""`rtseg eval --exits`: what every exit of a network scores, and what leaving early does."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from rtseg.apps._console import tracked
from rtseg.apps._scores import share

if TYPE_CHECKING:
    from rtseg.core.runspec import RunSpec
    from rtseg.core.zoo import Artifact
    from rtseg.datasets import DataSet
    from rtseg.metrics.exits import ExitScores


def score_exits(
    artifact: "Artifact", spec: "RunSpec", data: "DataSet", where: str, loss: float | None
) -> dict[str, Any]:
    """What every exit scores and leaving early does on a whole split.

    Args:
        artifact: the network.
        spec: of it.
        data: the split.
        where: what the card calls it, data set and split.
        loss: of mIoU, that leaving early may cost; thresholds are found for it and entered into the card with the
            figures. None: those of the card are taken.
    """
    thresholds: list[float | None] = [each.threshold for each in artifact.card.exits[:-1]]
    scores = measure_exits(replace(spec, exit=artifact.card.exits[-1].name), data)
    if loss is not None:
        thresholds = [*scores.calibrate(loss)]
    figures = scores.to_json(thresholds)
    if loss is not None:
        enter_exits(artifact, spec.precision, where, figures)
    return figures


def measure_exits(spec: "RunSpec", data: "DataSet") -> "ExitScores":
    """Runs every exit on a whole split."""
    from rtseg.live.labellers.early import every_exit
    from rtseg.live.segmenter import Segmenter
    from rtseg.metrics.exits import ExitScores

    with Segmenter(spec) as segmenter:
        exits = segmenter.card.exits
        scores = ExitScores(data.labels, [each.name for each in exits], [each.gmac_1024x2048 for each in exits])
        for sample in tracked(data, f"exits on {data.name} {data.split}", len(data)):
            found = every_exit(segmenter, sample.image)
            scores.update([labels for labels, _ in found], [unsure for _, unsure in found], sample.labels)
    return scores


def enter_exits(artifact: "Artifact", precision: str, split: str, figures: dict[str, Any]) -> None:
    """Writes the thresholds and each exit's figures, as `ExitScores.to_json` gives them, into the network's card."""
    card = artifact.card
    thresholds = [*figures["auto"]["thresholds"], None]
    for each, threshold in zip(figures["exits"], thresholds, strict=True):
        entered = {key: each[key] for key in ("miou", "pixel_accuracy", "iou", "frames")}
        metrics = dict(next(exit.metrics for exit in card.exits if exit.name == each["exit"]))
        metrics[precision] = {**metrics.get(precision, {}), split: entered}
        card = card.with_exit(each["exit"], threshold=threshold, metrics=metrics)
    artifact.save_card(card)


def tell_exits(figures: dict[str, Any]) -> None:
    """A table of the exits, then leaving early in a line."""
    console = Console(highlight=False)
    auto = figures.get("auto")
    table = Table("exit", "GMAC at 1024x2048", "mIoU", "pixel accuracy", *(["frames that stop"] if auto else []))
    for each in figures["exits"]:
        stopped = [f"{auto['stopped'][each['exit']]:.1%}"] if auto else []
        row = (f"{each['gmac']:.2f}", share(each["miou"], 4), share(each["pixel_accuracy"], 4), *stopped)
        table.add_row(each["exit"], *row)
    console.print(table)
    if auto:
        whole = figures["exits"][-1]
        thresholds = ", ".join(f"{threshold:.4f}" for threshold in auto["thresholds"])
        early, end = (f"mIoU {share(each['miou'], 4)}, {each['gmac']:.2f} GMAC" for each in (auto, whole))
        console.print(f"leaving early at entropies below {thresholds}: {early} on the mean frame; to the end {end}")
    else:
        console.print("leaving early is not calibrated: --calibrate-exits 0.002 allows a loss of 0.2 points of mIoU")
