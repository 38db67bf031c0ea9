"""Draws speed against accuracy."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rtseg.core.errors import UsageError
from rtseg.core.files import atomic_path
from rtseg.core.sizes import format_size

_SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path, split: str, stated: set[str]) -> None:
    """Checks before measuring that the plot can be drawn afterwards.

    Args:
        path: the picture.
        split: the split whose mIoU is plotted.
        stated: the splits for which the networks' cards have figures.

    Raises:
        UsageError: an unknown suffix, matplotlib is missing, or no card has a figure for the split.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--plot {path}: unknown picture type; allowed: {' '.join(_SUFFIXES)}")
    if not find_spec("matplotlib"):
        raise UsageError("--plot needs matplotlib: pip install 'rtseg[train]', or leave --plot out")
    if split not in stated:
        raise UsageError(f"no card states an mIoU for {split}; stated: {', '.join(sorted(stated)) or 'none'}")


def plot(results: list[dict[str, Any]], split: str, path: Path) -> list[str]:
    """Draws end-to-end fps against the mIoU that the cards state for `split`, one point per measurement.

    Returns what is left out, and why.
    """
    from matplotlib.figure import Figure

    from rtseg.training.fonts import lettered

    shown = [result for result in results if split in result["miou"]]
    networks = tuple(dict.fromkeys(result["model"] for result in shown))
    names, family = lettered(networks, "network")
    written = dict(zip(networks, names, strict=True))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for engine in dict.fromkeys(result["engine"] for result in shown):
        points = [result for result in shown if result["engine"] == engine]
        axes.scatter([p["end_to_end_fps"] for p in points], [p["miou"][split] for p in points], label=engine)
    middle = max((result["end_to_end_fps"] for result in shown), default=0) / 2
    for result in shown:
        text = f"{written[result['model']]} {result['precision']} {format_size(result['size'])}"
        place = (result["end_to_end_fps"], result["miou"][split])
        side: dict[str, Any] = {"xytext": (6, 4)} if place[0] < middle else {"xytext": (-6, 4), "ha": "right"}
        axes.annotate(text, place, textcoords="offset points", fontsize=8, family=family, parse_math=False, **side)
    axes.set(xlabel="frames per second, end to end", ylabel=f"mIoU, {split}", xlim=(0, None))
    axes.margins(x=0.25, y=0.25)
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=150)
    lacking = {f"{r['model']} {r['precision']}" for r in results if split not in r["miou"]}
    return [f"{name}: its card states no mIoU for {split}" for name in sorted(lacking)]
