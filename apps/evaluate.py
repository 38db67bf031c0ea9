"""`rtseg eval`: scores a network with any engine on any data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from rtseg.apps._console import tracked
from rtseg.core.files import write_json
from rtseg.core.sizes import format_size, parse_size


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `rtseg eval` takes.

    Attributes:
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it.
        data: camvid or scenes.
        root: The data set's folder.
        split: val, test, train, or another that the data set has.
        engine: 'auto' takes the fastest that is installed, by the network's measured order.
        precision: fp32, fp16 or int8. What cannot run is an error; it is never replaced.
        size: The network's input, HEIGHTxWIDTH; by default it follows from the pictures'.
        threads: CPU threads; by default every core.
        json: Write the figures to this file.
    """

    model: str = "icnet"
    data: str = "camvid"
    root: Path | None = None
    split: str = "val"
    engine: str = "auto"
    precision: str = "fp32"
    size: str | None = None
    threads: int | None = None
    json: Path | None = None


def command(options: EvalOptions | None = None) -> None:
    """Score a network with any engine on any data set."""
    from rtseg.vision.sinks import make_folder

    options = options or EvalOptions()
    if options.json is not None:
        make_folder(options.json.parent)
    figures = score(options)
    console = Console()
    table = Table("class", "IoU")
    for name, iou in figures["iou"].items():
        table.add_row(name, "does not occur" if iou is None else f"{iou:.3f}")
    console.print(table)
    console.print(
        f"mIoU {figures['miou']:.4f}, pixel accuracy {figures['pixel_accuracy']:.4f} on {figures['frames']} frames of "
        f"{options.data} {options.split}: {options.model} {figures['precision']} at {format_size(figures['size'])}, "
        f"{figures['runtime']}, {figures['device']}, {figures['threads']} threads",
        highlight=False,
    )
    if options.json is not None:
        write_json(options.json, figures)


def score(options: EvalOptions) -> dict[str, Any]:
    """Runs the whole split and returns the figures as JSON values."""
    from rtseg.datasets import open_data
    from rtseg.runtime.evaluate import evaluate
    from rtseg.runtime.segmenter import open_segmenter

    size_hw = parse_size(options.size) if options.size else None
    with open_segmenter(options.model, options.engine, options.precision, size_hw, options.threads) as segmenter:
        data = open_data(options.data, options.root, options.split)
        pictures = tracked(data, f"{options.data} {options.split}", len(data))
        matrix = evaluate(segmenter, pictures, data.labels)
        info, card = segmenter.info, segmenter.card
    return {
        **matrix.to_json(),
        "model": card.name,
        "engine": info.engine,
        "runtime": info.runtime,
        "device": info.device,
        "precision": info.precision,
        "size": list(info.size_hw),
        "threads": info.threads,
        "data": options.data,
        "split": options.split,
        "sha256": card.files.get(info.precision, card.files["fp32"]).sha256,  # a GPU engine makes FP16 of the FP32 file
    }
