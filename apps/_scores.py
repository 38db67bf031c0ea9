"""How `rtseg eval` prints its figures."""

from typing import Any

from rich.table import Column, Table

from rtseg.apps._console import plain_console
from rtseg.core.sizes import format_size


def tell_scores(figures: dict[str, Any]) -> None:
    """Prints a table of the classes, then the means, one per line."""
    console = plain_console()
    table = Table(Column("class", overflow="fold"), "IoU", "boundary F1")
    for name, iou in figures["iou"].items():
        table.add_row(name, share(iou), share(figures["boundary_f1_by_class"][name]))
    console.print(table)
    where = f"{figures['frames']} frames of {figures['data']} {figures['split']}"
    console.print(f"{means(figures)} on {where}: {ran(figures)}")
    if "ece" in figures:
        before = figures.get("ece_at_temperature_1")
        untempered = f"; {share(before, 4)} without it" if before is not None else ""
        console.print(f"confidence off by {share(figures['ece'], 4)} (ECE) at temperature {figures['temperature']:g}"
                      f"{untempered}")  # fmt: skip
    if "steady" in figures:
        console.print(f"averaged over time: {means(figures['steady'])}")
    if "test_time" in figures:
        averaged = figures["test_time"]
        how = " and mirror images" if averaged["flip"] else ""
        scales = ", ".join(f"{scale:g}" for scale in averaged["scales"])
        console.print(f"test-time average over scales {scales}{how}, not real-time: {means(averaged)}")


def tell_stability(figures: dict[str, Any]) -> None:
    """Prints flips by class, then the totals in one line."""
    console = plain_console()
    measured = figures["stability"]
    ways = {"labels that flip on still pixels": measured, "averaged over time": measured.get("steady")}
    ways = {title: way for title, way in ways.items() if way is not None}
    table = Table(Column("class", overflow="fold"), *ways)
    for name in measured["flips_by_class"]:
        table.add_row(name, *(share(way["flips_by_class"][name]) for way in ways.values()))
    console.print(table)
    console.print(
        f"{share(measured['flip_share'])} of still pixels flip ({share(measured['still_share'])} of all are still), "
        f"consistency {share(measured['consistency'])} in {measured['pairs']} pairs of frames of {measured['source']}: "
        f"{ran({**figures, 'size': measured['size']})}"
    )
    if (steady := measured.get("steady")) is not None:
        console.print(
            f"averaged over time: {share(steady['flip_share'])} flip, consistency {share(steady['consistency'])}"
        )


def means(figures: dict[str, Any]) -> str:
    """The three means in one line."""
    return (
        f"mIoU {share(figures['miou'], 4)}, pixel accuracy {share(figures['pixel_accuracy'], 4)}, "
        f"boundary F1 {share(figures['boundary_f1'], 4)}"
    )


def ran(figures: dict[str, Any]) -> str:
    """What the figures were measured with, in one line."""
    return (
        f"{figures['model']} {figures['precision']} at {format_size(figures['size'])}, {figures['runtime']}, "
        f"{figures['device']}, {figures['threads']} threads"
    )


def share(value: float | None, digits: int = 3) -> str:
    """A share 0..1, or that there is none."""
    return "does not occur" if value is None else f"{value:.{digits}f}"
