"""One ONNX file for every size, against a file exported for one size only: speed and number of operators.

    python benchmarks/export_sizes.py --json benchmarks/results/export_sizes.json

Both files are loaded by onnxruntime at the same size and run alternately in one process.
"""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.machine import cores
from rtseg.core.sizes import Size, parse_size
from rtseg.core.timing import Durations
from rtseg.core.zoo import resolve, shipped
from rtseg.live.environment import environment
from rtseg.models.deploy import DeployGraph
from rtseg.models.weights import load_network
from rtseg.scenes import StreetScene

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
PICTURES = 4
WARM_UP = 10


def export_fixed(model: str, size_hw: Size, path: Path) -> None:
    """Exports the same network with torch for one size, with all optimisations of the exporter."""
    graph = DeployGraph(load_network(resolve(model))).eval()
    example = torch.zeros(1, *size_hw, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        graph, (example,), dynamo=True, verbose=False, optimize=True, opset_version=18, input_names=["image"]
    )
    program.save(path)


def load(path: Path, size_hw: Size, threads: int, optimised: Path) -> ort.InferenceSession:
    """Loads a file like rtseg's engine; also writes the graph after onnxruntime's optimisations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimised)
    for axis, length in zip(("N", "height", "width"), (1, *size_hw), strict=True):
        options.add_free_dimension_override_by_name(axis, length)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(model: str, size_hw: Size, threads: int, runs: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        fixed = Path(folder, "fixed.onnx")
        export_fixed(model, size_hw, fixed)
        files = {"free": resolve(model).file("fp32"), "fixed": fixed}
        made = {form: Path(folder, f"{form}.optimised.onnx") for form in files}
        sessions = {form: load(path, size_hw, threads, made[form]) for form, path in files.items()}
        graphs = {form: onnx.load(path).graph.node for form, path in made.items()}
        stored = {form: len(onnx.load(path).graph.node) for form, path in files.items()}
    images = [StreetScene(size_hw, seed=seed).render(10)[0][None] for seed in range(PICTURES)]
    first = [session.run(None, {"image": images[0]})[0] for session in sessions.values()]
    times = {form: Durations() for form in sessions}
    for turn in range(WARM_UP + runs):
        order = list(sessions.items())
        for form, session in order if turn % 2 else reversed(order):  # alternate, so that neither always comes second
            with (times[form] if turn >= WARM_UP else Durations()).measure():
                session.run(None, {"image": images[turn % PICTURES]})
    medians = {form: durations.percentile_ms(50) for form, durations in times.items()}
    return {
        "size": list(size_hw),
        "ms": {form: durations.summary_ms() for form, durations in times.items()},
        "free_over_fixed": round(medians["free"] / medians["fixed"], 4),
        "nodes_in_file": stored,
        "nodes_after_load": {form: len(nodes) for form, nodes in graphs.items()},
        "same_operators": Counter(n.op_type for n in graphs["free"]) == Counter(n.op_type for n in graphs["fixed"]),
        "largest_difference": float(np.abs(first[0] - first[1]).max() / np.abs(first[1]).max()),
    }


@app.default
def main(
    *,
    model: tuple[str, ...] = (),
    size: str = "256x512",
    runs: int = 200,
    threads: int | None = None,
    json: Path | None = None,
) -> None:
    """Compares the file that serves every size with one that serves a single size.

    Args:
        model: networks; by default those that ship.
        size: height and width.
        runs: alternating runs of each.
        threads: threads of onnxruntime; by default one per core.
        json: file to write the results to.
    """
    threads = threads or cores()
    names = model or tuple(shipped())
    results = {resolve(name).card.name: measure(name, parse_size(size), threads, runs) for name in names}
    table = Table("network", "free size, ms", "fixed size, ms", "free / fixed", "operators free", "fixed", "difference")
    for name, result in results.items():
        nodes = result["nodes_after_load"]
        table.add_row(
            name, f"{result['ms']['free']['p50']:.2f}", f"{result['ms']['fixed']['p50']:.2f}",
            f"{result['free_over_fixed']:.3f}", f"{nodes['free']} (file: {result['nodes_in_file']['free']})",
            str(nodes["fixed"]), f"{result['largest_difference']:.1e}",
        )  # fmt: skip
    Console().print(table)
    if json:
        about = {"environment": environment(), "threads": threads, "runs": runs, "warm_up": WARM_UP}
        write_json(json, {**about, "results": results})


if __name__ == "__main__":
    run(app)
