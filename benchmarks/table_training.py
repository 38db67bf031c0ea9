"""Tables on training experiments: left-out drives, decoders, fewer labels, smaller networks."""

import json
from collections.abc import Callable
from typing import Any

from table_networks import figure
from table_sources import ROOT, markdown, result

WEAK = ("pole", "sign", "fence", "pedestrian", "cyclist")


def left_out_table() -> str:
    """Scores of each choice on a drive that its run did not see, with the hardest classes."""
    rows = [
        [drive, name, f"{found['miou']:.3f}", *(f"{found['iou'][c]:.2f}" for c in WEAK)]
        for drive, runs in result("left_out")["drives"].items()
        for name, found in runs.items()
    ]
    return markdown(["left out", "run", "mIoU", *WEAK], rows)


FORMS = {"deeplabv3": "deeplabv3", "icnet": "icnet shared to 16, detail", "pspnet": "pspnet", "swiftnet": "base"}
"""Shipped networks -> short runs of the same form on the left-out drives."""


def drives_table() -> str:
    """Scores of the shipped networks on val, beside short runs of the same forms on unseen drives."""
    drives = {drive: runs for drive, runs in result("left_out")["drives"].items() if {*FORMS.values()} & {*runs}}
    rows = []
    for name, run in FORMS.items():
        card = json.loads((ROOT / "weights" / f"{name}.json").read_text(encoding="utf-8"))
        unseen = [f"{runs[run]['miou']:.3f}" if run in runs else "" for runs in drives.values()]
        rows.append([name, figure(card, "camvid/val"), *unseen])
    return markdown(["network", "val", *(f"{drive}, left out" for drive in drives)], rows)


def decoders_table() -> str:
    """SwiftNet's possible decoders: their scores and costs."""
    scored, timed = result("left_out")["drives"]["0006R0"], result("decoders")["results"]
    rows = [
        [kind, f"{scored[found['run']]['miou']:.3f}", f"{found['gmac']:.2f}", f"{found['ms']['p50']:.1f}"]
        for kind, found in timed.items()
    ]
    return markdown(["decoder", "mIoU on the left-out drive", "GMAC at 256x512", "p50 at 256x512, ms"], rows)


def unlabelled_table() -> str:
    """An eighth of the labels, alone and with the other pictures."""
    found = result("unlabelled")
    names = {"labels": "an eighth of the labels", "labels and rest": "the same, the rest unlabelled"}
    rows = [
        [names.get(run, run), str(found["steps"]), *(f"{scored[split]['miou']:.3f}" for split in scored)]
        for run, scored in found["results"].items()
    ]
    splits = next(iter(found["results"].values()))
    return markdown(["run", "steps", *(f"mIoU {split}" for split in splits)], rows)


BASELINES = {
    "pruning": "half the channels, from scratch",
    "pruning swiftnet": "swiftnet at half its MACs, from scratch, as many epochs",
}
"""Baseline of a kind of method, if it is not the labels alone."""


def compression_table() -> str:
    """Gain of each method on the proxy, beside the labels alone and half the channels from scratch."""
    found = result("compression")
    results = found["results"]
    rows = []
    for name, row in results.items():
        against = BASELINES.get(row["kind"], "labels alone")
        base = results.get(against)
        gain = row["miou"] - base["miou"] if base and name != against else None
        first = next(iter(row["seeds"].values()))
        rows.append([
            row["kind"], name, f"{row['miou']:.3f}", "" if gain is None else f"{100 * gain:+.1f}",
            "" if row["spread"] is None else f"{100 * row['spread']:.1f}", str(len(row["seeds"])),
            f"{first['parameters'] / 1e3:.0f} k", f"{first['cpu_ms_a_step']:.0f}", verdict(gain, row, base),
        ])  # fmt: skip
    header = ["", "way", "mIoU", "points", "spread", "seeds", "parameters", "processor, ms a step", "it earns"]
    scores = ", ".join(f"{name} {score:.3f}" for name, score in found["scores"].items())
    missing = f" Not run yet: {', '.join(found['missing'])}." if found["missing"] else ""
    return f"{markdown(header, rows)}\n\nmIoU on {found['drive']}, which nobody saw; {scores}.{missing}"


def verdict(gain: float | None, row: dict[str, Any], base: dict[str, Any] | None) -> str:
    """Judges a difference: it is significant if it exceeds twice the spread of both."""
    if gain is None or base is None:
        return "the baseline"
    spread = max(row["spread"] or 0.0, base["spread"] or 0.0)
    if not spread:
        return "one seed: too little to say"
    if abs(gain) <= 2 * spread:
        return "no more than chance"
    return "helps" if gain > 0 else "harms"


def own_data_table() -> str:
    """Scores of the classes in docs/own-data.md after a run with default options."""
    found = result("own_data")["result"]
    rows = [*found["iou"].items(), ("mean", found["miou"])]
    table = markdown(["class", "IoU, held out"], [[name, f"{iou:.3f}"] for name, iou in rows])
    return f"{table}\n\nEpoch {found['best_epoch']} of {found['epochs']} was the best."


TABLES: dict[str, Callable[[], str]] = {
    "left_out": left_out_table,
    "drives": drives_table,
    "decoders": decoders_table,
    "unlabelled": unlabelled_table,
    "compression": compression_table,
    "own_data": own_data_table,
}
