"""`rtseg compile`: makes the INT8 form of a network for onnxruntime, or a TensorRT engine for this machine."""

import shutil
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rtseg.apps._console import plain_console, tracked
from rtseg.apps._idle import refuse_idle
from rtseg.core.card import Card, CardFile, Exit
from rtseg.core.errors import EngineError, ParityError, UsageError
from rtseg.core.files import atomic_path, file_sha256
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, parse_size
from rtseg.core.zoo import Artifact, resolve

if TYPE_CHECKING:
    import numpy as np

    from rtseg.int8.quantise import Ranges

ALLOWED_LOSS = 0.005
_CALIBRATION_PICTURES = 32
_OF_TENSORRT = ("optimization_level", "workspace", "tf32", "keep", "keep_worst", "rebuild", "report")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """What `rtseg compile` takes.

    Attributes:
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it.
        engine: onnxruntime (INT8, a file beside the network's) or tensorrt (an engine in this machine's cache).
        precision: fp32, fp16 or int8 for tensorrt, int8 for onnxruntime; the defaults are fp16 and int8.
        data: Data set for measuring activation ranges (on its train split) and the loss of mIoU (on its val split).
        root: That data set's folder.
        frames: A folder of pictures for measuring activation ranges, instead of the data set's, or for TensorRT's
            parity gate, instead of street scenes.
        size: HEIGHTxWIDTH of a TensorRT engine, or of the pictures while ranges are measured; by default the network's
            training size.
        force: Keep the result even if it loses more than 0.005 mIoU.
        optimization_level: TensorRT: from 0 (builds quickly) to 5 (tries the most).
        workspace: TensorRT: MiB of scratch memory that a layer may use; by default all of the GPU's memory.
        tf32: TensorRT: let FP32 convolutions round their inputs to TF32.
        keep: TensorRT: names of nodes that stay in the next higher precision.
        keep_worst: TensorRT INT8: measure which convolutions lose the most, and keep this many of them in FP16.
        rebuild: TensorRT: build again even if the cache has the engine.
        report: TensorRT: write the build report, layer by layer, to this JSON file.
    """

    model: str = "icnet"
    engine: Literal["onnxruntime", "tensorrt"] = "onnxruntime"
    precision: Literal["fp32", "fp16", "int8"] | None = None
    data: str | None = None
    root: Path | None = None
    frames: Path | None = None
    size: str | None = None
    force: Annotated[bool, Parameter(negative="")] = False
    optimization_level: int = 3
    workspace: int | None = None
    tf32: Annotated[bool, Parameter(negative="")] = False
    keep: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    keep_worst: int = 0
    rebuild: Annotated[bool, Parameter(negative="")] = False
    report: Path | None = None

    def __post_init__(self) -> None:
        if self.engine != "tensorrt":
            refuse_idle(self, _OF_TENSORRT, "is for TensorRT engines: add --engine tensorrt")
            if self.data is None and self.frames is None:
                refuse_idle(self, ("size",), "is for the pictures that ranges are measured on: add --data or --frames")
        if self.data is None:
            refuse_idle(self, ("root", "force"), "goes with --data: add that")


def command(options: CompileOptions | None = None) -> None:
    """Make a form of a network for one engine: INT8 for onnxruntime, or a TensorRT engine for this machine.

    INT8 for onnxruntime is entered in the network's card; without --data and --frames it is made from the activation
    ranges that the card keeps, as TensorRT's INT8 always is. A TensorRT engine must pass an audit of what its layers
    compute in and give onnxruntime's labels before it is kept.
    """
    if find_spec("onnx") is None:
        raise EngineError("rtseg compile needs the package onnx, which is not installed: pip install 'rtseg[train]'")
    options = options or CompileOptions()
    artifact = resolve(options.model)
    if options.engine == "tensorrt":
        from rtseg.apps._compile_tensorrt import compile_tensorrt

        compile_tensorrt(artifact, options)
    else:
        compile_int8(artifact, options)


def compile_int8(artifact: Artifact, options: CompileOptions) -> None:
    """Writes the INT8 file for onnxruntime beside the network's and enters it in the card."""
    from rtseg.engines.trial import first_run
    from rtseg.int8.quantise import quantise

    if options.precision not in (None, "int8"):
        raise UsageError(
            f"onnxruntime runs the network's own file in fp32, there is nothing to compile in {options.precision}: "
            "use --precision int8, or --engine tensorrt"
        )
    name = f"{artifact.card.name}.int8.onnx"
    if name in {entry.file for precision, entry in artifact.card.files.items() if precision != "int8"}:
        raise UsageError(f"{name} would overwrite the network itself: export that under another name")
    ranges = activation_ranges(artifact, options)
    with TemporaryDirectory() as staging:
        made = Path(staging, name)
        quantise(artifact.file("fp32"), ranges, made)
        first_run(made, [trial_picture(artifact.card)])
        entry = CardFile(name, file_sha256(made), made.stat().st_size)
        card = replace(artifact.card, files={**artifact.card.files, "int8": entry}, activation_ranges=dict(ranges))
        card = replace(card, exits=compile_exits(artifact, ranges, Path(staging)))
        card = with_loss(artifact, Artifact(card, Path(staging)), options)
        for file in (entry, *(each.files["int8"] for each in card.exits)):
            with atomic_path(artifact.folder / file.file) as part:
                shutil.copyfile(Path(staging, file.file), part)
        artifact.save_card(card)
    plain_console().print(f"{artifact.folder / name}: {entry.bytes / 2**20:.1f} MiB")


def compile_exits(artifact: Artifact, ranges: "Ranges", folder: Path) -> tuple[Exit, ...]:
    """Writes the INT8 form of every graph in the chain of a network with exits; returns none for other networks."""
    from rtseg.engines.trial import first_chain_run
    from rtseg.int8.quantise import quantise

    exits: list[Exit] = []
    if not artifact.card.exits:
        return ()
    for each, source in zip(artifact.card.exits, artifact.chain("fp32"), strict=True):
        made = folder / f"{source.stem}.int8.onnx"
        quantise(source, ranges, made)
        entry = CardFile(made.name, file_sha256(made), made.stat().st_size)
        exits.append(replace(each, files={**each.files, "int8": entry}))
    first_chain_run([folder / each.files["int8"].file for each in exits], [trial_picture(artifact.card)])
    return tuple(exits)


def activation_ranges(artifact: Artifact, options: CompileOptions) -> "Ranges":
    """The ranges measured on the pictures that were given, or else those in the card.

    Raises:
        UsageError: there are neither.
    """
    from rtseg.int8.calibrate import measure_ranges
    from rtseg.int8.chain import chain_tensors, join_chain
    from rtseg.int8.fold import load_float_graph
    from rtseg.int8.quantise import quantised_tensors

    card = artifact.card
    if options.data is None and options.frames is None:
        if not card.activation_ranges:
            raise UsageError(f"the card of {card.name} has no activation ranges: give --data and --root, or --frames")
        return card.activation_ranges
    pictures = calibration_pictures(options, input_size(card, options.size))
    graph = load_float_graph(artifact.file("fp32"))
    tensors = quantised_tensors(graph)
    if card.exits:
        chain = artifact.chain("fp32")
        with TemporaryDirectory() as staging:
            join_chain(chain, Path(staging, "chain.onnx"))
            graph = load_float_graph(Path(staging, "chain.onnx"))
        tensors = list(dict.fromkeys([*tensors, *chain_tensors(chain)]))
    return measure_ranges(graph, tensors, tracked(pictures, "measuring ranges"))


def input_size(card: Card, size: str | None) -> Size:
    """The size asked for, or the size closest to the training size that the network takes."""
    if size is not None:
        return card.check_size(parse_size(size))
    return card.nearest_size(card.train_size)


def calibration_pictures(options: CompileOptions, size_hw: Size) -> "list[np.ndarray]":
    """Up to 32 pictures, evenly spread, at the network's input size."""
    from rtseg.pictures.resize import resize_image
    from rtseg.sources.open import open_source

    if options.frames is not None:
        kept: list[np.ndarray] = []
        step = 1
        with open_source(str(options.frames)) as source:
            if source.endless:
                raise UsageError(f"--frames {options.frames} has no end: give a folder of pictures, or a video")
            for index, frame in enumerate(source):
                if index % step == 0:
                    kept.append(resize_image(frame.image, size_hw))
                if len(kept) == 2 * _CALIBRATION_PICTURES:
                    kept, step = kept[::2], 2 * step
        return kept[:: -(-len(kept) // _CALIBRATION_PICTURES)]
    from rtseg.datasets import open_data

    assert options.data is not None
    data = open_data(options.data, options.root, "train")
    step = -(-len(data) // _CALIBRATION_PICTURES)
    return [resize_image(data.sample(index).image, size_hw) for index in range(0, len(data), step)]


def trial_picture(card: Card) -> "np.ndarray":
    """One street scene at the smallest size with a few cells: (1, h, w, 3)."""
    from rtseg.scenes import StreetScene

    size_hw = card.nearest_size((max(128, 8 * card.size_multiple), max(192, 12 * card.size_multiple)))
    return StreetScene(size_hw).render(0)[0][None]


def with_loss(before: Artifact, after: Artifact, options: CompileOptions) -> Card:
    """The new card with the mIoU of the INT8 form; prints what it loses.

    Raises:
        ParityError: it loses more than allowed.
    """
    console = plain_console()
    if options.data is None:
        known = after.card.figures("int8")
        console.print(f"mIoU not measured now (--data, --root); the card says: {known or 'nothing'}")
        return after.card
    fp32, int8 = score(before, "fp32", options), score(after, "int8", options)
    loss = fp32["miou"] - int8["miou"]
    line = f"mIoU on {options.data} val: fp32 {fp32['miou']:.4f}, int8 {int8['miou']:.4f}, lost {loss:.4f}"
    console.print(line)
    if loss > ALLOWED_LOSS:
        if not options.force:
            raise ParityError(f"{line}; {ALLOWED_LOSS} is allowed, so nothing was written: --force keeps it")
        console.print(f"kept because of --force, though more than {ALLOWED_LOSS} is lost")
    figures = {f"{options.data}/val": {"miou": int8["miou"], "fp32_miou": fp32["miou"], "lost": round(loss, 4)}}
    return after.card.with_figures("int8", figures)


def score(
    artifact: Artifact, precision: str, options: CompileOptions, engine: str = "onnxruntime", size: Size | None = None
) -> dict[str, Any]:
    """The figures of an engine on the validation split."""
    from rtseg.datasets import open_data
    from rtseg.live.segmenter import Segmenter
    from rtseg.metrics.evaluate import evaluate

    assert options.data is not None
    data = open_data(options.data, options.root, "val")
    with Segmenter(RunSpec(artifact, engine, precision, size)) as segmenter:
        pictures = tracked(data, f"scoring {precision} on {engine}", len(data))
        return evaluate(segmenter, pictures, data.labels).to_json()
