"""Label upsampling against torch and OpenCV: interleaved runs, medians, ratios, share of border cells.

    python benchmarks/upsample.py --json benchmarks/results/upsample.json

The logits come from the networks that ship, on a street scene, and from a smooth random field of 19 classes.
All forms get the same float32 (C, h, w) array and give the same labels, but for ties within rounding.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cyclopts import App
from rich.console import Console
from rich.table import Table

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.machine import cores
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.timing import Durations
from rtseg.core.zoo import resolve, shipped
from rtseg.live.environment import environment
from rtseg.pictures.upsample import border_share, upsample_labels

app = App(help=__doc__)
PICTURES = 4  # different ones in turn, so that branch prediction cannot adapt to a single picture
Form = Callable[[np.ndarray, Size], np.ndarray]


def with_cv2(logits: np.ndarray, size_hw: Size) -> np.ndarray:
    """The short form: one resize of all classes, channels last (faster than one by one), and one argmax."""
    return cv2.resize(np.ascontiguousarray(logits.transpose(1, 2, 0)), size_hw[::-1]).argmax(2)


def with_cv2_running(logits: np.ndarray, size_hw: Size) -> np.ndarray:
    """The fastest form we know with these libraries: class by class, keeping only the best so far."""
    best, labels = cv2.resize(logits[0], size_hw[::-1]), np.zeros(size_hw, np.uint8)
    plane = np.empty_like(best)
    for label in range(1, len(logits)):
        cv2.resize(logits[label], size_hw[::-1], dst=plane)
        higher = plane > best
        np.copyto(best, plane, where=higher)
        np.copyto(labels, label, where=higher)
    return labels


def torch_form(threads: int) -> Form:
    import torch

    torch.set_num_threads(threads)

    def with_torch(logits: np.ndarray, size_hw: Size) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(logits)[None]
            full = torch.nn.functional.interpolate(batch, size_hw, mode="bilinear", align_corners=False)
            return full.argmax(1)[0].numpy()

    return with_torch


def smooth_logits(classes: int, size_hw: Size, patch: int) -> list[np.ndarray]:
    """A random value per class every `patch` cells, bicubic between them."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 5, (PICTURES, classes, size_hw[0] // patch, size_hw[1] // patch)).astype(np.float32)
    resized = [[cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_CUBIC) for plane in field] for field in coarse]
    return [np.stack(planes) for planes in resized]


def network_logits(name: str, input_hw: Size, threads: int) -> list[np.ndarray]:
    """A shipped network's logits for street scenes."""
    from rtseg.engines import EngineOptions, load_engine
    from rtseg.scenes import StreetScene

    images = [StreetScene(input_hw, seed=seed).render(10)[0] for seed in range(PICTURES)]
    with load_engine("auto", resolve(name), EngineOptions(input_hw, threads=threads)) as engine:
        return [engine.infer(image).copy() for image in images]


def measure(pictures: Sequence[np.ndarray], size_hw: Size, forms: dict[str, Form], runs: int) -> dict[str, Any]:
    times = {name: Durations() for name in forms}
    expected = forms["rtseg"](pictures[0], size_hw)  # the first call of each form is its warm-up
    differ = {name: float((form(pictures[0], size_hw) != expected).mean()) for name, form in forms.items()}
    for turn in range(runs):
        logits = pictures[turn % len(pictures)]
        for name, form in forms.items():
            with times[name].measure():
                form(logits, size_hw)
    ours = times["rtseg"].percentile_ms(50)
    return {
        "logits": list(pictures[0].shape),
        "border_share": round(float(np.mean([border_share(logits, size_hw) for logits in pictures])), 4),
        "ms": {name: durations.summary_ms() for name, durations in times.items()},
        "ratio_of_medians": {name: round(durations.percentile_ms(50) / ours, 2) for name, durations in times.items()},
        "share_of_pixels_that_differ": differ,
    }


def show(results: dict[str, dict[str, Any]], size_hw: Size, console: Console) -> None:
    table = Table(title=f"logits to {format_size(size_hw)} labels, ms")
    for column in ("logits", "form", "p50", "p90", "p99", "rtseg is faster by"):
        table.add_column(column, justify="left" if column in ("logits", "form") else "right")
    for name, result in results.items():
        about = [name, "x".join(map(str, result["logits"])), f"border {result['border_share']:.1%}"]
        for line, (form, ms) in zip(chain(about, repeat("")), result["ms"].items(), strict=False):
            percentiles = [f"{ms[key]:.1f}" for key in ("p50", "p90", "p99")]
            table.add_row(line, form, *percentiles, f"{result['ratio_of_medians'][form]:.1f}x")
        table.add_section()
    console.print(table)


@app.default
def main(
    *,
    size: str = "1024x2048",
    input_size: str = "256x512",
    runs: int = 30,
    threads: int | None = None,
    json: Path | None = None,
) -> None:
    """Compares label upsampling by torch (where installed), OpenCV and rtseg.

    Args:
        size: height and width of the label map.
        input_size: height and width that the networks run at.
        runs: interleaved runs of every form.
        threads: threads for each library; default: one per core.
        json: file to write the results to.
    """
    size_hw, input_hw = parse_size(size), parse_size(input_size)
    threads = threads or cores()
    cv2.setNumThreads(threads)
    forms: dict[str, Form] = {"torch": torch_form(threads)} if find_spec("torch") else {}
    forms |= {"cv2": with_cv2, "cv2 per class": with_cv2_running}
    forms["rtseg"] = lambda logits, size_hw: upsample_labels(logits, size_hw, threads=threads)
    cases = {name: network_logits(name, input_hw, threads) for name in shipped()}
    cases["smooth, 1/4"] = smooth_logits(19, (input_hw[0] // 4, input_hw[1] // 4), patch=8)
    cases["smooth, 1/1"] = smooth_logits(19, input_hw, patch=32)
    results = {name: measure(pictures, size_hw, forms, runs) for name, pictures in cases.items()}
    show(results, size_hw, Console())
    if json:
        write_json(
            json,
            {"environment": environment(), "size_hw": size_hw, "threads": threads, "runs": runs, "results": results},
        )


if __name__ == "__main__":
    run(app)
