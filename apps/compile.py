"""`rtseg compile`: makes the INT8 form of a network for onnxruntime."""

import shutil
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from rtseg.apps._console import tracked
from rtseg.core.card import Card, CardFile
from rtseg.core.errors import EngineError, ParityError, UsageError
from rtseg.core.files import atomic_path, file_sha256
from rtseg.core.sizes import Size, check_multiple, nearest_multiple, parse_size
from rtseg.core.weights import Artifact, resolve

if TYPE_CHECKING:
    import numpy as np

    from rtseg.compilers.quantize import Ranges

ALLOWED_LOSS = 0.005
_CALIBRATION_PICTURES = 32


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """What `rtseg compile` takes.

    Attributes:
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it.
        precision: int8 is what can be made here.
        data: Data set to measure activation ranges on (its train split) and the mIoU lost (its val split).
        root: That data set's folder.
        frames: A folder of pictures to measure activation ranges on, instead of the data set's.
        size: The network's input while ranges are measured; by default the size that it was trained at.
        force: Keep the result even if it loses more than 0.005 mIoU.
    """

    model: str = "icnet"
    precision: Literal["int8"] = "int8"
    data: str | None = None
    root: Path | None = None
    frames: Path | None = None
    size: str | None = None
    force: Annotated[bool, Parameter(negative="")] = False


def command(options: CompileOptions | None = None) -> None:
    """Make the INT8 form of a network and enter it in the network's card.

    Without --data and --frames it is made from the activation ranges that the card keeps.
    """
    if find_spec("onnx") is None:
        raise EngineError("rtseg compile needs the package onnx, which is not installed: pip install 'rtseg[train]'")
    from rtseg.compilers.quantize import quantize
    from rtseg.engines.trial import first_run

    options = options or CompileOptions()
    artifact = resolve(options.model)
    ranges = activation_ranges(artifact, options)
    name = f"{artifact.card.name}.int8.onnx"
    with TemporaryDirectory() as staging:
        made = Path(staging, name)
        quantize(artifact.file("fp32"), ranges, made)
        first_run(made, trial_picture(artifact.card))
        entry = CardFile(name, file_sha256(made), made.stat().st_size)
        card = replace(
            artifact.card, files={**artifact.card.files, options.precision: entry}, activation_ranges=dict(ranges)
        )
        card = with_loss(artifact, Artifact(card, Path(staging)), options)
        with atomic_path(artifact.folder / name) as part:
            shutil.copyfile(made, part)
        card.save(artifact.folder / f"{card.name}.json")
    Console().print(f"{artifact.folder / name}: {entry.bytes / 2**20:.1f} MiB", highlight=False)


def activation_ranges(artifact: Artifact, options: CompileOptions) -> "Ranges":
    """Measured on pictures where any are given, else those of the card.

    Raises:
        UsageError: neither is there.
    """
    from rtseg.compilers.calibration import measure_ranges
    from rtseg.compilers.graph import load_float_graph
    from rtseg.compilers.quantize import quantised_tensors

    card = artifact.card
    if options.data is None and options.frames is None:
        if not card.activation_ranges:
            raise UsageError(f"the card of {card.name} has no activation ranges: give --data and --root, or --frames")
        return card.activation_ranges
    pictures = calibration_pictures(options, input_size(card, options.size))
    graph = load_float_graph(artifact.file("fp32"))
    shown = tracked(pictures, "measuring ranges")
    return measure_ranges(graph, quantised_tensors(graph), shown)


def input_size(card: Card, size: str | None) -> Size:
    """The size asked for, or the nearest to that of the training pictures that the network takes."""
    if size is not None:
        return check_multiple(parse_size(size), card.size_multiple, card.name)
    return nearest_multiple(card.train_size, card.size_multiple)


def calibration_pictures(options: CompileOptions, size_hw: Size) -> "list[np.ndarray]":
    """Up to 32 pictures, evenly spread, at the network's input size."""
    from rtseg.vision.resize import resize_image
    from rtseg.vision.sources import open_source

    if options.frames is not None:
        with open_source(str(options.frames)) as source:
            everything = [resize_image(frame.image, size_hw) for frame in source]
        return everything[:: -(-len(everything) // _CALIBRATION_PICTURES)]
    from rtseg.datasets import open_data

    assert options.data is not None
    data = open_data(options.data, options.root, "train")
    step = -(-len(data) // _CALIBRATION_PICTURES)
    return [resize_image(data.sample(index).image, size_hw) for index in range(0, len(data), step)]


def trial_picture(card: Card) -> "np.ndarray":
    """One street scene at the smallest size with a few cells: (1, h, w, 3)."""
    from rtseg.vision.scenes import StreetScene

    return StreetScene((8 * card.size_multiple, 12 * card.size_multiple)).render(0)[0][None]


def with_loss(before: Artifact, after: Artifact, options: CompileOptions) -> Card:
    """The new card with the mIoU of the INT8 form; prints what it lost.

    Raises:
        ParityError: it lost more than is allowed.
    """
    console = Console()
    if options.data is None:
        known = after.card.metrics.get("int8", {})
        console.print(f"mIoU not measured now (--data, --root); the card says: {known or 'nothing'}", highlight=False)
        return after.card
    fp32, int8 = score(before, "fp32", options), score(after, "int8", options)
    loss = fp32["miou"] - int8["miou"]
    line = f"mIoU on {options.data} val: fp32 {fp32['miou']:.4f}, int8 {int8['miou']:.4f}, lost {loss:.4f}"
    console.print(line, highlight=False)
    if loss > ALLOWED_LOSS:
        if not options.force:
            raise ParityError(f"{line}; {ALLOWED_LOSS} is allowed, nothing was written: --force keeps it")
        console.print(f"kept because of --force, though more than {ALLOWED_LOSS} is lost", highlight=False)
    figures = {f"{options.data}/val": {"miou": int8["miou"], "fp32_miou": fp32["miou"], "lost": round(loss, 4)}}
    return replace(after.card, metrics={**after.card.metrics, "int8": figures})


def score(artifact: Artifact, precision: str, options: CompileOptions) -> dict[str, Any]:
    """The figures of onnxruntime on the val split."""
    from rtseg.datasets import open_data
    from rtseg.runtime.evaluate import evaluate
    from rtseg.runtime.policy import thread_budget
    from rtseg.runtime.segmenter import EngineChoice, Segmenter

    assert options.data is not None
    data = open_data(options.data, options.root, "val")
    choice = EngineChoice(artifact, "onnxruntime", precision, threads=thread_budget().engine)
    with Segmenter(choice) as segmenter:
        pictures = tracked(data, f"scoring {precision}", len(data))
        return evaluate(segmenter, pictures, data.labels).to_json()
