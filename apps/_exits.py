"""`rtseg eval --exits`: the scores of every exit of a network, and of stopping early."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.table import Table

from rtseg.apps._console import plain_console, tracked
from rtseg.apps._scores import share

if TYPE_CHECKING:
    from rtseg.core.runspec import RunSpec
    from rtseg.core.zoo import Artifact
    from rtseg.datasets import DataSet
    from rtseg.metrics.exits import ExitScores
    from rtseg.metrics.regions import Choice, RegionScores


def score_exits(
    artifact: "Artifact", spec: "RunSpec", data: "DataSet", where: str, loss: float | None
) -> dict[str, Any]:
    """Scores every exit, and stopping early, on a whole split.

    Args:
        artifact: the network.
        spec: how to run it.
        data: the split.
        where: its name in the card, data set and split.
        loss: mIoU that stopping early may lose; thresholds for it are found and written into the card with the
            figures. None: the card's thresholds are used.
    """
    from rtseg.metrics.regions import cheapest

    thresholds: list[float | None] = [each.threshold for each in artifact.card.exits[:-1]]
    scores, regions = measure_exits(replace(spec, exit=artifact.card.exits[-1].name), data, loss is not None)
    if loss is not None:
        thresholds = [*scores.calibrate(loss)]
    figures = scores.to_json(thresholds)
    choices = regions.choices()
    chosen = cheapest(choices, scores.at(-1).miou - loss) if loss is not None else next(iter(choices), None)
    if chosen is not None:
        figures["regions"] = chosen.to_json()
    if loss is not None:
        enter_exits(artifact, spec.precision, where, figures, chosen)
    return figures


def measure_exits(spec: "RunSpec", data: "DataSet", calibrate: bool) -> "tuple[ExitScores, RegionScores]":
    """Runs every exit on a whole split; with the card's regions or, with `calibrate`, all possible ones."""
    from rtseg.live.labellers.early import every_exit
    from rtseg.live.segmenter import Segmenter
    from rtseg.metrics.exits import ExitScores
    from rtseg.metrics.regions import region_scores

    with Segmenter(spec) as segmenter:
        exits = segmenter.card.exits
        scores = ExitScores(data.labels, [each.name for each in exits], [each.gmac_1024x2048 for each in exits])
        regions = region_scores(segmenter.card, segmenter.prepare(data.size_hw).size_hw, calibrate)
        for sample in tracked(data, f"exits on {data.name} {data.split}", len(data)):
            found = every_exit(segmenter, sample.image)
            labels = [each.labels for each in found]
            scores.update(labels, [each.entropy for each in found], sample.labels)
            regions.update(labels, [each.sure for each in found], sample.labels)
    return scores, regions


def enter_exits(
    artifact: "Artifact", precision: str, split: str, figures: dict[str, Any], chosen: "Choice | None"
) -> None:
    """Writes what was calibrated, and each exit's figures from `score_exits`, into the network's card."""
    card = artifact.card
    thresholds = [*figures["auto"]["thresholds"], None]
    for each, threshold in zip(figures["exits"], thresholds, strict=True):
        entered = {key: each[key] for key in ("miou", "pixel_accuracy", "iou", "frames")}
        metrics = dict(next(exit.metrics for exit in card.exits if exit.name == each["exit"]))
        metrics[precision] = {**metrics.get(precision, {}), split: entered}
        regions = chosen.regions if chosen is not None and chosen.start.name == each["exit"] else None
        card = card.with_exit(each["exit"], threshold=threshold, metrics=metrics, regions=regions)
    artifact.save_card(card)


def tell_exits(figures: dict[str, Any]) -> None:
    """Prints a table of the exits, and a line about stopping early."""
    console = plain_console()
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
        console.print(f"leaving early at entropies below {thresholds}: {early} for the average frame; to the end {end}")
    else:
        console.print("leaving early is not calibrated: --calibrate-exits 0.002 allows a loss of 0.2 points of mIoU")
    if regions := figures.get("regions"):
        where = f"refining {regions['tile']} tiles where {regions['exit']} is less than {regions['sure']:g} sure"
        console.print(f"{where}, {regions['refined']:.1%} of the pixels: mIoU {share(regions['miou'], 4)}, "
                      f"{regions['gmac']:.2f} GMAC for the average frame")  # fmt: skip
    elif auto:
        console.print("refining unsure regions: not calibrated, or no choice of them saves work")
