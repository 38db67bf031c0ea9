"""Everything that has to be measured on an NVIDIA GPU, in one resumable run.

    python benchmarks/gpu.py --root CAMVID            # writes benchmarks/results/gpu.json, row after row
    python benchmarks/gpu.py --pending                # which rows are still missing
    python benchmarks/gpu.py --minutes 9              # begins no row after nine minutes; run it again for the rest

A row that fails is written down with its error and does not stop the others; the next run tries it again.
`benchmarks/gpu.sh` runs this from a plain clone on a machine that reaches no package registry: so this has argparse,
where the other benchmarks have cyclopts.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from rtseg.core.errors import RtsegError
from rtseg.core.files import write_json
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.zoo import resolve, shipped

sys.path.insert(0, str(Path(__file__).parent))
import gpu_machine
import gpu_rows as rows
from gpu_targets import targets

RESULT = Path(__file__).parent / "results" / "gpu.json"
FIRST = ("icnet", "fp16", (1024, 2048))
SIZES = ((1024, 2048), (512, 1024))
TENSORRT, COMPARATORS = ("fp32", "fp16", "int8"), {"torch-cuda": ("fp32", "fp16"), "onnxruntime-cuda": ("fp32",)}

Row = Callable[[], dict[str, Any]]


def row_list(models: list[str], sizes: list[Size], plan: rows.Plan, folder: Path) -> dict[str, Row]:
    """Row name -> function that measures it, most important first."""
    wanted: dict[str, Row] = {
        "machine": partial(gpu_machine.machine, plan.runs // 10),
        "smoke": partial(rows.smoke, plan),
    }
    for model, precision, size_hw in order(models, sizes):
        if precision == "int8" and not resolve(model).card.activation_ranges:
            continue
        place = f"{name_of(model)}/{precision}/{format_size(size_hw)}"
        wanted[f"tensorrt/{place}"] = partial(rows.engine_row, "tensorrt", model, precision, size_hw, plan)
        for engine, precisions in COMPARATORS.items():
            if precision in precisions:
                wanted[f"{engine}/{place}"] = partial(rows.engine_row, engine, model, precision, size_hw, plan)
        if precision == "fp16":
            wanted[f"loop/{place}"] = partial(rows.loop_row, model, precision, size_hw, plan, folder)
    if plan.root is not None:
        for model in models:
            engines = [("torch-cuda", "fp32"), *(("tensorrt", precision) for precision in TENSORRT)]
            for engine, precision in engines:
                if precision != "int8" or resolve(model).card.activation_ranges:
                    name = f"miou/{engine}/{name_of(model)}/{precision}"
                    wanted[name] = partial(rows.miou_row, engine, model, precision, plan)
    return wanted


def order(models: list[str], sizes: list[Size]) -> Iterator[tuple[str, str, Size]]:
    """Every combination, FP16 at the larger size first, ICNet before all."""
    combinations = list(product(models, TENSORRT, sizes))
    combinations.sort(key=lambda c: ((name_of(c[0]), *c[1:]) != FIRST, c[1] != "fp16", -c[2][0] * c[2][1]))
    return iter(combinations)


def name_of(model: str) -> str:
    return Path(model).stem


def measure(name: str, row: Row) -> dict[str, Any]:
    """Runs a row; an error becomes its result."""
    start = perf_counter()
    try:
        result = {"status": "done", **row()}
    except KeyboardInterrupt:
        raise
    except Exception as error:  # one row must not cost the others: the machine may be available for minutes only
        kind = "" if isinstance(error, RtsegError) else f"{type(error).__name__}: "
        result = {"status": "failed", "error": f"{kind}{' '.join(str(error).split())}"}
    return {**result, "seconds": round(perf_counter() - start, 1), "clocks": gpu_machine.gpu_state()}


def run(wanted: dict[str, Row], done: dict[str, Any], path: Path, minutes: float) -> bool:
    """Measures the missing rows, writing after each; returns False if one failed or time ran out."""
    deadline = perf_counter() + 60 * minutes
    complete = True
    for number, (name, row) in enumerate(wanted.items(), 1):
        if finished(done, name):
            continue
        if perf_counter() > deadline:
            print(f"{name} and what follows is left to another run: {minutes} minutes are over", flush=True)
            return False
        print(f"[{number}/{len(wanted)}] {name}", flush=True)
        done[name] = measure(name, row)
        write_json(path, {"rows": done, "targets": targets(done)})
        complete &= finished(done, name)
        why = done[name].get("error") or done[name].get("reason", "")
        print(f"    {done[name]['status']} in {done[name]['seconds']} s {why}", flush=True)
        if name == "smoke" and done[name]["status"] == "failed":
            print("TensorRT builds nothing here: the rows that need it would fail alike", flush=True)
            return False
    return complete


def finished(done: dict[str, Any], name: str) -> bool:
    """Whether a row needs no further run: it is done, or the machine lacks what it measures."""
    return done.get(name, {}).get("status") in ("done", "absent")


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else {}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=list(shipped()), help="names, or ONNX files with their cards")
    parser.add_argument("--size", nargs="+", default=[format_size(size) for size in SIZES])
    parser.add_argument("--runs", type=int, default=200, help="timed runs of each figure")
    parser.add_argument("--frames", type=int, default=150, help="frames of the video that the whole loop reads")
    parser.add_argument("--root", type=Path, help="CamVid's folder; without it mIoU is left out")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no row after so many minutes")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--fresh", action="store_true", help="measure all rows again")
    parser.add_argument("--pending", action="store_true", help="list the rows that are missing and end")
    options = parser.parse_args(arguments)
    warm_up = min(20, options.runs)
    plan = rows.Plan(options.runs, warm_up, options.frames, options.root)
    done = {} if options.fresh else load(options.json)
    with TemporaryDirectory() as folder:
        wanted = row_list(options.model, [parse_size(size) for size in options.size], plan, Path(folder))
        missing = [name for name in wanted if not finished(done, name)]
        if options.pending:
            hint = "" if options.root else " (and mIoU: give --root)"
            print("\n".join(missing) or f"nothing is pending{hint}")
            return 1 if missing else 0
        complete = run(wanted, done, options.json, options.minutes)
    for target in targets(done):
        print(f"{target['met']!s:5}  {target['target']}: {target['measured']} (wanted {target['wanted']})")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
