"""What each way of teaching, pruning and sparse training brings: the same small network, steps and left-out drive.

    python benchmarks/compression.py --root CAMVID --runs RUNS            # runs what is not there yet
    python benchmarks/compression.py --root CAMVID --runs RUNS --only cwd at --seeds 0 1 2
    python benchmarks/compression.py --runs RUNS --collect                # writes benchmarks/results/compression.json

The proxy: ENet, 30 epochs on two drives of CamVid at 180x240 in crops of 128x160 (`base`), goes on for 5 epochs in
each way, from the same weights; the third drive, 0006R0, says what that was worth. The teacher is SwiftNet on
EfficientNet-Lite0 with ImageNet weights, trained on the same two drives for 24 epochs; it is pruned to half its MACs
too, since it is of the kind that ships. Nobody saw 0006R0. It says which of two ways is better in few steps, not what a
network reaches. Times are those of the processor, so that another load on the
machine does not count: those of a whole run, with its start and its scoring, over its steps.
"""

import csv
import json
import resource
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter

from rtseg.apps._console import run
from rtseg.core.errors import UsageError
from rtseg.core.files import write_json
from rtseg.core.registry import unknown_name
from rtseg.live.environment import environment
from rtseg.training.distill import METHODS, SUMMARIES
from rtseg.training.pruning.folder import read_row

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
RESULT = Path(__file__).parent / "results" / "compression.json"
DRIVE = "0006R0"
COMMON = (
    "--data", "camvid", "--split", f"without-{DRIVE}", "--holdouts", f"only-{DRIVE}", "--keep", "last",
    "--batch-size", "8", "--train-size", "180x240", "--crop", "128x160", "--scale", "0.7", "1.7", "--scenes", "0",
    "--light", "0.6", "--lovasz", "1", "--lr", "2e-3", "--ema", "0.99", "--validate-every", "1000",
    "--checkpoint-every", "5", "--workers", "1", "--threads", "1",
)  # fmt: skip
LITE0 = ("--encoder", "efficientnet_lite0", "--set", "pretrained=imagenet", "--trunk-factor", "0.25")
BASE_EPOCHS, TEACHER_EPOCHS, EPOCHS = 30, 24, 5
LABELS = "labels alone"
SCRATCH = "half the channels, from scratch"
SWIFTNET = "swiftnet at half its MACs"


@dataclass(frozen=True)
class Row:
    """A method: its kind, its options for `rtseg train`, the pruning before it, and the run to prune."""

    kind: str
    train: tuple[str, ...]
    prune: tuple[str, ...] = ()
    epochs: int = EPOCHS
    model: str = "enet"
    whole: str = "base"


def rows() -> dict[str, Row]:
    """Name -> method; `RUNS` in an option stands for the folder of the runs."""
    start = ("--init", "RUNS/base/best.safetensors")
    pruned = ("--init", "PRUNED/best.safetensors")
    teacher = ("--teacher", "RUNS/teacher/best.safetensors")
    made = {LABELS: Row("teaching", start)}
    for name in SUMMARIES:
        shown = teacher if METHODS.get(name).has_teacher else ()
        made[name] = Row("teaching", (*start, *shown, "--teaching", name))
    for method in ("l1", "l2", "bn", "random"):
        made[f"half the channels, by {method}"] = Row("pruning", pruned, ("--method", method, "--keep", "0.5"))
    fresh = (*pruned, "--from-scratch", "steps")
    made[SCRATCH] = Row("pruning", fresh, ("--method", "l1", "--keep", "0.5"), BASE_EPOCHS + EPOCHS)
    half = ("--method", "l1", "--macs", "0.5")
    for name, options, epochs in (
        (SWIFTNET, (), EPOCHS),
        (f"{SWIFTNET}, from scratch, as many epochs", ("--from-scratch", "steps"), TEACHER_EPOCHS + EPOCHS),
        (f"{SWIFTNET}, from scratch, as many MACs", ("--from-scratch", "macs"), TEACHER_EPOCHS + EPOCHS),
    ):
        made[name] = Row("pruning swiftnet", (*pruned, *options), half, epochs, "swiftnet", "teacher")
    for kind in ("dsd", "magnitude", "lottery"):
        made[f"--sparse {kind}"] = Row("sparse", (*start, "--sparse", kind))
    return made


def folder_of(runs: Path, name: str, seed: int) -> Path:
    plain = name.replace("--", "").replace(",", "").replace(" ", "-")
    return runs / (plain if seed == 0 else f"{plain}-seed-{seed}")


def call(*command: str) -> float:
    """Runs rtseg; returns processor seconds, including those of its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["rtseg", *command], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(root: Path, output: Path, *options: str) -> None:
    """Trains unless that is done already; adds up the seconds of interrupted runs."""
    if (output / "cpu.json").is_file() and (output / "report").is_dir():
        return
    seconds = call("train", *options, *COMMON, "--root", str(root), "--output", str(output))
    write_json(output / "cpu.json", {"seconds": seconds})


def run_row(root: Path, runs: Path, name: str, row: Row, seed: int) -> None:
    output = folder_of(runs, name, seed)
    pruned = output.with_name(f"{output.name}-pruned")
    if row.prune and not (pruned / "best.safetensors").is_file():
        call("prune", "--model", str(runs / row.whole / "best.safetensors"), *row.prune, "--output", str(pruned))
    given = [word.replace("RUNS", str(runs)).replace("PRUNED", str(pruned)) for word in row.train]
    train(root, output, "--model", row.model, *given, "--epochs", str(row.epochs), "--seed", str(seed))


def steps_of(folder: Path) -> int:
    """Optimizer steps of a run."""
    rows = (row for file in folder.glob("curves/*/metrics.csv") for row in csv.DictReader(file.open(encoding="utf-8")))
    return 1 + max(int(row["step"]) for row in rows)


def collect_runs(runs: Path) -> dict[str, Any]:
    """Name -> kind, mean, spread and, by seed, mIoU, classes, parameters and processor time."""
    found: dict[str, Any] = {}
    for name, row in rows().items():
        scored = {}
        for folder in sorted(runs.glob(f"{folder_of(runs, name, 0).name}*")):
            seed = folder.name.partition("-seed-")[2] or "0"
            if not seed.isdigit() or folder != folder_of(runs, name, int(seed)) or not (folder / "cpu.json").is_file():
                continue
            card = json.loads((folder / "best.json").read_text(encoding="utf-8"))
            figures = card["metrics"][f"camvid/only-{DRIVE}"]
            seconds = json.loads((folder / "cpu.json").read_text(encoding="utf-8"))["seconds"]
            scored[seed] = {"miou": figures["miou"], "iou": figures["iou"], "parameters": read_row(folder).parameters,
                            "epochs": row.epochs, "cpu_s": round(seconds, 1),
                            "cpu_ms_a_step": round(1e3 * seconds / steps_of(folder), 1)}  # fmt: skip
        if scored:
            mious = [one["miou"] for one in scored.values()]
            spread = statistics.stdev(mious) if len(mious) > 1 else None
            found[name] = {"kind": row.kind, "miou": statistics.mean(mious), "spread": spread, "seeds": scored}
    return found


@app.default
def main(
    *, runs: Path, root: Path | None = None, only: tuple[str, ...] = (), seeds: tuple[int, ...] = (0,),
    collect: bool = False,
) -> None:  # fmt: skip
    """Trains and scores, or collects the scores.

    Args:
        runs: A folder for each run is made here.
        root: CamVid's folder.
        only: Ways; by default all.
        seeds: Of the runs.
        collect: Run nothing, and write what the runs scored.
    """
    ways = rows()
    for name in only:
        if name not in ways:
            raise unknown_name("way", name, list(ways))
    if collect:
        return write_scores(runs)
    if root is None:
        raise UsageError("--root is missing: give CamVid's folder, or --collect, which runs nothing")
    train(root, runs / "base", "--model", "enet", "--epochs", str(BASE_EPOCHS))
    train(root, runs / "teacher", "--model", "swiftnet", *LITE0, "--epochs", str(TEACHER_EPOCHS))
    for seed in seeds:
        for name in only or ways:
            print(f"{name}, seed {seed}", flush=True)
            run_row(root, runs, name, ways[name], seed)


def write_scores(runs: Path) -> None:
    steps = {name: json.loads((runs / name / "best.json").read_text(encoding="utf-8"))["metrics"]
             for name in ("base", "teacher")}  # fmt: skip
    scores = {name: metrics[f"camvid/only-{DRIVE}"]["miou"] for name, metrics in steps.items()}
    results = collect_runs(runs)
    missing = [name for name in rows() if name not in results]
    about = {"environment": environment(), "drive": DRIVE, "scores": scores}
    write_json(RESULT, {**about, "results": results, "missing": missing})


if __name__ == "__main__":
    run(app)
