"""The engines alone: arithmetic achieved, INT8 against FP32, and ENet against its own eager torch form.

    python benchmarks/engines.py --json benchmarks/results/engines.json

Every comparison is interleaved in one process with the same number of threads for both sides.
- arithmetic: 2 x MAC x fps of ICNet on onnxruntime against float32 matrix products (numpy, 2048 x 2048 x 2048).
- int8: ICNet's INT8 file against its FP32 file, on onnxruntime.
- eager: ENet on every engine against its torch form with `max_unpool2d`, which is how its paper's unpooling is
  usually written.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from rtseg.apps._console import run

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

app = App(help=__doc__)
PICTURES = 4
BLOCK = 5  # timed runs in a row, after an untimed one, because the other forms have emptied the caches
MATRIX = 2048


def measure(
    forms: "dict[str, Callable[[np.ndarray], object]]", images: "list[np.ndarray]", runs: int
) -> dict[str, Any]:
    """Runs the forms in turn, in blocks, on the same pictures; returns the milliseconds of each."""
    from rtseg.core.timing import Durations

    times = {name: Durations() for name in forms}
    for block in range(-1, -(-runs // BLOCK)):  # the first block of each form is its warm-up
        for name, form in forms.items():
            form(images[block % len(images)])
            for turn in range(BLOCK):
                with (times[name] if block >= 0 else Durations()).measure():
                    form(images[(block * BLOCK + turn) % len(images)])
    return {name: durations.summary_ms() for name, durations in times.items()}


def street_pictures(size_hw: tuple[int, int]) -> "list[np.ndarray]":
    from rtseg.scenes import StreetScene

    return [StreetScene(size_hw, seed=seed).render(10)[0] for seed in range(PICTURES)]


def arithmetic(model: str, size_hw: tuple[int, int], threads: int, runs: int) -> dict[str, Any]:
    """Share of the matrix product's rate that ICNet's convolutions reach."""
    import numpy as np

    from rtseg.core.zoo import resolve
    from rtseg.engines import EngineOptions, load_engine

    artifact = resolve(model)
    gmac = artifact.card.gmac_1024x2048 * size_hw[0] * size_hw[1] / (1024 * 2048)
    left, right = (np.random.default_rng(seed).random((MATRIX, MATRIX), np.float32) for seed in (0, 1))
    out = np.empty_like(left)
    with load_engine("onnxruntime", artifact, EngineOptions(size_hw, threads=threads)) as engine:
        forms = {"engine": engine.infer, "matmul": lambda image: np.matmul(left, right, out=out)}
        ms = measure(forms, street_pictures(size_hw), runs)
    reached, possible = 2 * gmac / ms["engine"]["p50"] * 1e3, 2 * MATRIX**3 / 1e9 / ms["matmul"]["p50"] * 1e3
    return {
        "model": artifact.card.name, "size": list(size_hw), "gmac": round(gmac, 4), "ms": ms,
        "fps": round(1e3 / ms["engine"]["p50"], 2), "gflops": round(reached, 1), "matmul_gflops": round(possible, 1),
        "share": round(reached / possible, 3),
    }  # fmt: skip


def int8(model: str, size_hw: tuple[int, int], threads: int, runs: int) -> dict[str, Any]:
    """The INT8 file's speed-up."""
    from rtseg.core.zoo import resolve
    from rtseg.engines import EngineOptions, load_engine

    artifact = resolve(model)
    if "int8" not in artifact.card.files:
        return {"model": artifact.card.name, "missing": "this network has no INT8 form"}
    engines = {
        precision: load_engine("onnxruntime", artifact, EngineOptions(size_hw, precision, threads))
        for precision in ("fp32", "int8")
    }
    ms = measure({name: engine.infer for name, engine in engines.items()}, street_pictures(size_hw), runs)
    for engine in engines.values():
        engine.close()
    faster = round(ms["fp32"]["p50"] / ms["int8"]["p50"], 3)
    return {"model": artifact.card.name, "size": list(size_hw), "ms": ms, "int8_is_faster_by": faster}


def eager(model: str, size_hw: tuple[int, int], threads: int, runs: int) -> dict[str, Any]:
    """ENet in eager torch with index unpooling, in both memory layouts, and on every installed engine."""
    from rtseg.core.zoo import resolve
    from rtseg.engines import ENGINES, EngineOptions, available, load_engine, select

    artifact = resolve(model)
    options = EngineOptions(size_hw, threads=threads)
    engines = {name: load_engine(name, artifact, options) for name in ENGINES if available(name)}
    forms: dict[str, Callable[[np.ndarray], object]] = {name: engine.infer for name, engine in engines.items()}
    forms |= {f"eager {layout}": eager_form(artifact, layout, threads) for layout in ("contiguous", "channels_last")}
    ms = measure(forms, street_pictures(size_hw), runs)
    for engine in engines.values():
        engine.close()
    best = min(ms[name]["p50"] for name in ms if name.startswith("eager"))
    return {
        "model": artifact.card.name, "size": list(size_hw), "ms": ms,
        "auto": select("auto", "fp32", artifact, options).engine,
        "faster_than_the_better_eager_form_by": {name: round(best / ms[name]["p50"], 3) for name in engines},
    }  # fmt: skip


def eager_form(artifact: Any, layout: str, threads: int) -> "Callable[[np.ndarray], object]":
    """The shipped network, with `max_pool2d` that returns indices and `max_unpool2d` that uses them."""
    import torch
    import torch.nn.functional as F

    from rtseg.models import enet
    from rtseg.models.deploy import DeployGraph
    from rtseg.models.weights import load_network

    class Down(enet.DownsamplingBottleneck):
        def forward(self, x: Any) -> Any:
            pooled, indices = F.max_pool2d(x, 2, return_indices=True)
            padded = F.pad(pooled, (0, 0, 0, 0, 0, self.extra))
            return self.act(padded + self.residual(x)), indices

    class Up(enet.UpsamplingBottleneck):
        def forward(self, x: Any, indices: Any) -> Any:
            return F.relu(F.max_unpool2d(self.main(x), indices, 2) + self.residual(x))

    network = load_network(artifact)
    for module in network.modules():
        if isinstance(module, enet.DownsamplingBottleneck):
            module.__class__ = Down
        elif isinstance(module, enet.UpsamplingBottleneck):
            module.__class__ = Up
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    graph: Any = DeployGraph(network).eval().to(memory_format=memory)  # type: ignore[call-overload]
    torch.set_num_threads(threads)

    def run(image: "np.ndarray") -> object:
        with torch.inference_mode():
            return graph(torch.from_numpy(image)[None])

    return run


def show(results: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("measured", "form", "p50 ms", "p90", "p99")
    for name, result in results.items():
        for form, ms in result.get("ms", {}).items():
            table.add_row(name, form, *(f"{ms[key]:.2f}" for key in ("p50", "p90", "p99")))
        table.add_section()
    console = Console()
    console.print(table)
    first, second, third = results["arithmetic"], results["int8"], results["eager"]
    console.print(f"{first['model']}: {first['gflops']} GFLOP/s, {first['share']:.2f} of the matrix product's rate")
    console.print(f"{second['model']}: {second.get('int8_is_faster_by', second.get('missing'))} x FP32 in INT8")
    factors = third["faster_than_the_better_eager_form_by"]
    console.print(f"{third['model']}: x eager torch {factors}; auto is {third['auto']}")


@app.default
def main(
    *,
    icnet: str = "icnet",
    enet: str = "enet",
    size: str = "256x512",
    runs: int = 100,
    threads: int | None = None,
    json: Path | None = None,
) -> None:
    """Measures the engines alone.

    Args:
        icnet: ICNet, by name or as an ONNX file with its card.
        enet: ENet, likewise.
        size: height and width of the pictures.
        runs: interleaved runs of every form, in blocks of five.
        threads: threads of every library; by default one per core.
        json: file to write the results to.
    """
    from rtseg.core.files import write_json
    from rtseg.core.machine import cores
    from rtseg.core.sizes import parse_size
    from rtseg.live.environment import environment

    threads = threads or cores()
    size_hw = parse_size(size)
    results = {
        "arithmetic": arithmetic(icnet, size_hw, threads, runs),
        "int8": int8(icnet, size_hw, threads, runs),
        "eager": eager(enet, size_hw, threads, runs),
    }
    show(results)
    if json:
        about = {"environment": environment(), "threads": threads, "runs": runs, "block": BLOCK}
        write_json(json, {**about, "results": results})


def pin_threads() -> None:
    """numpy's matrix library reads its number of threads once, when it is loaded."""
    wanted = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else None
    if wanted is not None:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = wanted


if __name__ == "__main__":
    pin_threads()
    run(app)
