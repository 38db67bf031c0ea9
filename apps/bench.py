"""`rtseg-bench`: how fast networks run on this machine, alone and in the whole loop."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import rtseg
from rtseg.apps._console import plain_console, run
from rtseg.apps._idle import refuse_idle
from rtseg.apps._plot import check_plot, plot
from rtseg.core.addresses import without_password
from rtseg.core.errors import UsageError
from rtseg.core.files import write_json
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import shipped

app = App(name="rtseg-bench", version=rtseg.__version__)
_Many = Parameter(consume_multiple=True, negative="")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What `rtseg-bench` takes.

    Attributes:
        model: Networks; by default all that ship.
        engine: Engines; 'auto' is the choice of rtseg-cam.
        size: Input sizes, HEIGHTxWIDTH; by default the choice of rtseg-cam.
        precision: Precisions; 'auto' is the choice of rtseg-cam.
        source: The source for the whole loop.
        source_size: HEIGHTxWIDTH of the synthetic street.
        frames: Number of frames for the whole loop.
        runs: Number of timed runs of the engine alone.
        threads: CPU threads in total; by default every core.
        json: Write the figures to this file.
        plot: Draw speed against mIoU to this file (PNG, SVG or PDF).
        split: The split whose mIoU is shown and plotted.
    """

    model: Annotated[tuple[str, ...], _Many] = ()
    engine: Annotated[tuple[str, ...], _Many] = ("auto",)
    size: Annotated[tuple[str, ...], _Many] = ()
    precision: Annotated[tuple[str, ...], _Many] = ("auto",)
    source: str = "synthetic"
    source_size: str | None = None
    frames: int = 200
    runs: int = 100
    threads: int | None = None
    json: Path | None = None
    plot: Path | None = None
    split: str = "camvid/val"


_DEFAULTS = BenchOptions()


@app.default
def bench(options: BenchOptions = _DEFAULTS) -> None:
    """Measure networks x engines x sizes x precisions on this machine.

    It measures three figures separately: the engine alone, every stage, and the whole loop of rtseg-cam without a
    window.
    """
    from rtseg.live.bench import BenchPlan
    from rtseg.live.bench import bench as measure
    from rtseg.live.environment import environment
    from rtseg.pictures.resize import limit_threads

    models = options.model or tuple(shipped())
    sizes: list[Size | None] = [parse_size(size) for size in options.size] or [None]
    specs = [
        RunSpec(model, engine, precision, size_hw, options.threads)
        for model, engine, size_hw, precision in product(models, options.engine, sizes, options.precision)
    ]
    _check(options, specs)
    limit_threads(thread_budget(options.threads).opencv)
    if not options.source.startswith("synthetic"):
        name = without_password(options.source)
        refuse_idle(options, ("source_size",), f"is for the synthetic street, and {name} is none")
    source_hw = parse_size(options.source_size) if options.source_size else None
    plan = BenchPlan(options.source, source_hw, options.frames, options.runs)
    results: list[dict[str, Any]] = []
    try:
        with Console(stderr=True).status(f"measuring 1 of {len(specs)}") as status:
            for result in measure(specs, plan):
                results.append(result)
                status.update(f"measuring {min(len(specs), len(results) + 1)} of {len(specs)}")
    finally:  # keeps what was measured before an error or Ctrl-C
        if results:
            plain_console().print(_table(results, options.split))
            if options.json:
                data = {"environment": environment(), "plan": _plain(asdict(plan)), "results": results}
                write_json(options.json, data)
    if options.plot:
        for left_out in plot(results, options.split, options.plot):
            plain_console().print(f"not in {options.plot}: {left_out}")


def _check(options: BenchOptions, specs: Sequence[RunSpec]) -> None:
    """Finds errors before minutes are spent on measuring."""
    from rtseg.apps._overwrite import check_outputs, source_files
    from rtseg.engines import candidates
    from rtseg.live.bench import miou_of_card
    from rtseg.live.spec import check_spec

    for flag, value in (("--frames", options.frames), ("--runs", options.runs)):
        if value < 2:
            raise UsageError(f"{flag} {value} is too few to measure anything: give 2 or more")
    artifacts = []
    for spec in specs:
        artifact = check_spec(spec)
        runs = candidates(spec.engine, artifact)
        if spec.precision == "int8" and runs != ["tensorrt"]:  # TensorRT makes its own INT8 form
            artifact.file(spec.precision)
        artifacts.append(artifact)
    stated = {split for artifact in artifacts for split in miou_of_card(artifact.card)}
    if options.plot:
        check_plot(options.plot, options.split, stated)
    networks = [path for artifact in artifacts for path in artifact.paths]
    inputs = {"the source": source_files(options.source), "a network": networks}
    check_outputs({"--json": options.json, "--plot": options.plot}, inputs)


def _plain(plan: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plan.items()}


def _table(results: list[dict[str, Any]], split: str) -> Table:
    """One measurement per row, in two lines, so that nothing is cut at 80 columns; the JSON has all percentiles."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network\nengine, input", overflow="fold")
    for title in ("engine ms\np50 / p99", "engine\nfps", "loop\nfps", "latency ms\np50 / p99", f"mIoU\n{split}"):
        table.add_column(title, justify="right", overflow="fold")
    for result in results:
        engine_ms, latency_ms, miou = result["engine_ms"], result["latency_ms"], result["miou"].get(split)
        table.add_row(
            f"{result['model']} {result['precision']}\n{result['engine']} {format_size(result['size'])}",
            f"{engine_ms['p50']:.1f} / {engine_ms['p99']:.1f}",
            f"{result['engine_fps']:.1f}",
            f"{result['end_to_end_fps']:.1f}",
            " / ".join(f"{latency_ms[name]:.0f}" for name in ("p50", "p99") if name in latency_ms),
            "not stated" if miou is None else f"{miou:.3f}",
        )
    return table


def main() -> None:
    """The command `rtseg-bench`."""
    run(app)


if __name__ == "__main__":
    main()
