"""What SwiftNet's decoders cost: milliseconds on onnxruntime, interleaved in one process, with fresh weights.

    python benchmarks/decoders.py --json benchmarks/results/decoders.json

What they score is in benchmarks/results/left_out.json, by the name that each entry gives as `run`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from cyclopts import App
from engines import measure, street_pictures
from rich.console import Console

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.labels import CAMVID11
from rtseg.core.sizes import parse_size
from rtseg.core.threads import thread_budget
from rtseg.engines import EngineOptions, load_engine
from rtseg.export.network import export_network
from rtseg.live.environment import environment
from rtseg.models import build_model
from rtseg.models.base import count_macs
from rtseg.models.decoders import STEPS

app = App(help=__doc__)


@app.default
def main(*, size: str = "256x512", runs: int = 60, json: Path | None = None) -> None:
    """Times each decoder.

    Args:
        size: The network's input.
        runs: Timed runs of each.
        json: Write the figures to this file.
    """
    size_hw, engines = parse_size(size), {}
    results: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder:
        for kind in STEPS:
            torch.manual_seed(0)
            model = build_model("swiftnet", {"decoder": kind})
            artifact = export_network(model, kind, CAMVID11, Path(folder), train_size=(360, 480))
            engines[kind] = load_engine("onnxruntime", artifact, EngineOptions(size_hw, threads=thread_budget().engine))
            run = "base" if kind == "sum" else f"decoder {kind}"
            results[kind] = {"run": run, "gmac": round(count_macs(model, size_hw) / 1e9, 3)}
        times = measure({kind: engine.infer for kind, engine in engines.items()}, street_pictures(size_hw), runs)
        for kind, engine in engines.items():
            results[kind]["ms"] = times[kind]
            engine.close()
    Console().print(results)
    if json is not None:
        write_json(json, {"environment": environment(), "size": list(size_hw), "results": results})


if __name__ == "__main__":
    run(app)
