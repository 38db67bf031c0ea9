"""Whether what 'auto' takes is what is fastest in the loop: each engine alone, as 'auto' measures it, and in the loop.

    python benchmarks/choice.py --json benchmarks/results/choice.json

A video of procedural street scenes, 1024x2048, is made first. Each round then measures every engine as 'auto' does,
with nothing remembered, and runs the loop of `rtseg-cam --no-window` on the video with each engine and precision. The
median over the rounds is reported; 'auto' need only be right about the order in the loop, not about its fps.
"""

import statistics
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter
from default import loop
from street_video import street_video

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.sizes import Size, parse_size
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import resolve, shipped
from rtseg.engines.auto import Form, fastest
from rtseg.engines.base import EngineOptions
from rtseg.engines.rate import Fps, measure_rates
from rtseg.live.environment import environment
from rtseg.live.policies import Every
from rtseg.live.spec import default_size
from rtseg.pictures.resize import limit_threads

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))


def measure(model: str, forms: list[Form], video: Path, source_hw: Size, rounds: int) -> list[dict[str, Any]]:
    artifact, threads = resolve(model), thread_budget().engine
    options = EngineOptions(
        default_size(artifact.card, source_hw), threads=threads, in_flight=min(threads, Every().most_in_flight)
    )
    found: dict[Form, list[tuple[float, float, float]]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form in forms:
            rate = measure_rates(artifact, form.engine, [form.precision], options).rates[form.precision]
            if isinstance(rate, str):
                raise SystemExit(f"{model}: {form} does not run: {rate}")
            looped = loop(model, form.precision, video, form.engine)
            found[form].append((looped["engine_fps"], rate.beside, looped["fps"]))
    rows = []
    for form, figures in found.items():
        alone, beside, fps = (round(statistics.median(column), 2) for column in zip(*figures, strict=True))
        rows.append({"model": model, **form._asdict(), "engine_fps": alone, "beside_fps": beside, "fps": fps})
    return rows


def choice(rows: list[dict[str, Any]], figure: str) -> Form:
    """What 'auto' would choose by a figure."""
    rates = {Form(row["engine"], row["precision"]): Fps(row[figure], row[figure]) for row in rows}
    return fastest(list(rates), rates)


@app.default
def main(
    *,
    model: tuple[str, ...] = (),
    engine: tuple[str, ...] = ("onnxruntime", "openvino"),
    precision: tuple[str, ...] = ("fp32", "int8"),
    source: str = "1024x2048",
    frames: int = 120,
    rounds: int = 3,
    json: Path | None = None,
) -> None:
    """Measures every engine and precision.

    Args:
        model: Networks; by default those that ship.
        engine: The engines.
        precision: Their precisions.
        source: Size of the video.
        frames: Of the video.
        rounds: How often each is measured.
        json: Write the figures to this file.
    """
    limit_threads(thread_budget().opencv)
    source_hw, results = parse_size(source), []
    forms = [Form(name, each) for each in precision for name in engine]
    with street_video(source_hw, frames) as video:
        for name in model or shipped():
            rows = measure(name, forms, video, source_hw, rounds)
            results += rows
            for row in rows:
                print(f"{name} {row['precision']} on {row['engine']}: alone {row['engine_fps']:.1f} fps, "
                      f"as auto measures {row['beside_fps']:.1f}, in the loop {row['fps']:.1f}")  # fmt: skip
            print(f"{name}: auto takes {choice(rows, 'beside_fps')}, alone it would be {choice(rows, 'engine_fps')}; "
                  f"the loop is fastest with {choice(rows, 'fps')}")  # fmt: skip
    if json is not None:
        about = {"rounds": rounds, "frames": frames, "source": list(source_hw)}
        write_json(json, {"environment": environment(), **about, "results": results})


if __name__ == "__main__":
    run(app)
