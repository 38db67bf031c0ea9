"""What a choice is worth on a drive that training left out: short runs that differ in one thing each.

    python benchmarks/left_out.py --root CAMVID --runs RUNS                   # trains what is not there yet, one by one
    python benchmarks/left_out.py --root CAMVID --runs RUNS --drive 0016E5 --only base pspnet
    python benchmarks/left_out.py --runs RUNS --collect                       # adds to benchmarks/results/left_out.json

Every run trains SwiftNet on EfficientNet-Lite0 with ImageNet weights on the other two drives, unless its name says
otherwise. Short runs say which choice is better, not what a network reaches. A class that the left-out drive hardly
shows says little: cyclists are 0.07 % of 0006R0's pixels.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

from cyclopts import App, Parameter

from rtseg.apps._console import run
from rtseg.core.errors import UsageError
from rtseg.core.files import write_json
from rtseg.core.registry import unknown_name

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
RESULT = Path(__file__).parent / "results" / "left_out.json"
LITE0 = ("--encoder", "efficientnet_lite0", "--set", "pretrained=imagenet")
SWIFTNET = ("--model", "swiftnet", *LITE0)
STRIDES = ("--set", "output_stride=16", "--set", "logits_stride=4")
TWICE = ("--set", "high=trunk")
DETAIL = ("--set", "shared_stride=16", "--set", "detail=true", "--set", "width=0.3125")
LARGER = ("--train-size", "480x640", "--crop", "480x640")
COMMON = ("--epochs", "24", "--batch-size", "16", "--crop", "352x480", "--scale", "0.7", "1.7", "--light", "0.6",
          "--scenes", "0", "--lovasz", "1", "--lr", "2e-3", "--trunk-factor", "0.25", "--ema", "0.998",
          "--keep", "last", "--validate-every", "1000", "--checkpoint-every", "25")  # fmt: skip
VARIANTS: dict[str, tuple[str, ...]] = {
    "base": SWIFTNET,
    "decoder attention": (*SWIFTNET, "--set", "decoder=attention"),
    "decoder separable": (*SWIFTNET, "--set", "decoder=separable"),
    "at 480x640": (*SWIFTNET, *LARGER),
    "without light": (*SWIFTNET, "--light", "0"),
    "without class weights": (*SWIFTNET, "--class-balance", "0"),
    "pspnet": ("--model", "pspnet", *LITE0, *STRIDES),
    "deeplabv3": ("--model", "deeplabv3", *LITE0, *STRIDES, "--set", "channels=128"),
    "icnet": ("--model", "icnet", *LITE0),
    "icnet at 480x640": ("--model", "icnet", *LITE0, *LARGER),
    "icnet trunk twice": ("--model", "icnet", *LITE0, *TWICE),
    "icnet shared to 16, detail": ("--model", "icnet", *LITE0, *TWICE, *DETAIL),
    "icnet shared to 16, detail, at 480x640": ("--model", "icnet", *LITE0, *TWICE, *DETAIL, *LARGER),
    "base, 120 epochs": (*SWIFTNET, "--epochs", "120"),
    "base, seed 1": (*SWIFTNET, "--seed", "1"),
    "base, seed 2": (*SWIFTNET, "--seed", "2"),
}
DRIVES = ("0006R0", "0016E5", "0001TP")  # the first guides decisions, the others confirm


def options(name: str, drive: str) -> list[str]:
    """The options of a run; the variant's override the defaults."""
    own = VARIANTS[name]
    common, keep = [], True
    for word in COMMON:
        keep = word not in own if word.startswith("--") else keep
        common += [word] if keep else []
    return [*own, *common, "--split", f"without-{drive}", "--holdouts", f"only-{drive}"]


def folder_of(runs: Path, name: str) -> Path:
    return runs / name.replace(",", "").replace(" ", "-")


def collect_runs(runs: Path, drive: str) -> dict[str, Any]:
    """Variant -> scores of its run on the drive that it did not see."""
    found = {}
    for name in VARIANTS:
        card = folder_of(runs, name) / "best.json"
        if card.is_file():
            about = json.loads(card.read_text(encoding="utf-8"))
            figures = about["metrics"][f"camvid/only-{drive}"]
            found[name] = {"miou": figures["miou"], "iou": figures["iou"], "recipe": about["recipe"]}
    return found


@app.default
def main(
    *, runs: Path, root: Path | None = None, drive: Literal["0006R0", "0016E5", "0001TP"] = "0006R0",
    only: tuple[str, ...] = (), workers: int = 3, collect: bool = False,
) -> None:  # fmt: skip
    """Trains, or collects what the runs scored.

    Args:
        runs: A folder for each run is made here.
        root: CamVid's folder.
        drive: The drive that is left out.
        only: Of the runs; by default all.
        workers: Processes that read pictures.
        collect: Train nothing, and write what the runs scored.
    """
    for name in only:
        if name not in VARIANTS:
            raise unknown_name("run", name, list(VARIANTS))
    if collect:
        return write_scores(runs)
    if root is None:
        raise UsageError("--root is missing: give CamVid's folder, or --collect, which trains nothing")
    for name in only or VARIANTS:
        command = ["rtseg", "train", *options(name, drive), "--root", str(root), "--workers", str(workers)]
        print(name, flush=True)
        subprocess.run([*command, "--output", str(folder_of(runs / drive, name))], check=True)


def write_scores(runs: Path) -> None:
    before = json.loads(RESULT.read_text(encoding="utf-8"))["drives"] if RESULT.is_file() else {}
    merged = {drive: {**before.get(drive, {}), **collect_runs(runs / drive, drive)} for drive in DRIVES}
    ordered = {drive: {name: rows[name] for name in VARIANTS if name in rows} for drive, rows in merged.items()}
    write_json(RESULT, {"drives": ordered})


if __name__ == "__main__":
    run(app)
