"""Imports any ONNX file: writes one graph in rtseg's form, and its card."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

import rtseg
from rtseg.core.card import IMPORTED, Card, CardFile
from rtseg.core.errors import EngineError, OutputError, RtsegError, UsageError
from rtseg.core.files import atomic_path, file_sha256
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size, format_size
from rtseg.core.zoo import Artifact
from rtseg.engines import available
from rtseg.importing.form import Kind
from rtseg.importing.graph import DeploymentGraph, parameters, scores_behind
from rtseg.importing.original import Layout, Original, read_original
from rtseg.importing.parity import Parity, check_parity, gate_pictures
from rtseg.importing.probe import Probe
from rtseg.importing.scaling import Scaling, find_scaling
from rtseg.importing.sizes import Sizes, find_sizes

DEFAULT_SIZE = (512, 512)
"""Default training size: pictures are labelled at about as many pixels."""
_OTHER_ENGINES = ("openvino",)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Facts that a graph does not contain; None for those that it may reveal itself.

    Attributes:
        preset: a name in `rtseg.importing.scaling.PRESETS`; the other fields override its parts.
        mean: one number, or one per channel in the order of `order`.
        std: the same.
        order: 'rgb' or 'bgr'.
        scale: divides the uint8 values before `mean` is subtracted; 255 if only the others are given.
        output: 'logits', 'probabilities' or 'labels'.
        output_name: the output tensor to use, if there are several.
        layout: 'nchw' or 'nhwc'.
        size: (height, width) of the network's training pictures.
        data_terms: see `Card`.
    """

    preset: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: Any = None
    scale: float | None = None
    output: Kind | None = None
    output_name: str | None = None
    layout: Layout | None = None
    size: Size | None = None
    data_terms: str = ""


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        artifact: the network's card and folder.
        parity: engine -> its agreement with the original.
        notes: findings and decisions, one sentence each.
    """

    artifact: Artifact
    parity: dict[str, Parity]
    notes: list[str] = field(default_factory=list)


def import_network(
    path: Path, name: str, labels: LabelSet, folder: Path, options: ImportOptions | None = None
) -> Imported:
    """Writes `folder/NAME.onnx` and its card `folder/NAME.json`.

    Args:
        path: ONNX file.
        name: name of the files.
        labels: its classes, in the order of its channels or ids.
        folder: created if it does not exist.
        options: facts that the graph does not contain.

    Raises:
        UsageError: the options contradict the graph, or lack something that only the user knows.
        WeightsError: the file cannot be read.
        EngineError: onnxruntime cannot run it.
        ParityError: the imported form's labels differ from the original's; nothing is written.
        OutputError: the folder cannot be written.
    """
    options = options or ImportOptions()
    if name in ("", ".", "..") or Path(name).name != name or name.endswith(".onnx"):
        raise UsageError(f"--name {name!r} must be a plain name without folder and suffix, for example mine")
    original = read_original(path, options.layout, options.output_name)
    picture = original.picture
    scaling = find_scaling(
        picture.dtype == np.uint8, options.preset, options.mean, options.std, options.order, options.scale
    )
    probe = Probe(original, scaling, labels, options.output, options.layout)
    sizes = find_sizes(picture, probe.measure, options.size)
    about = {"rtseg": rtseg.__version__, "name": name, "labels": labels.to_json(), "input": "uint8 BGR (N, H, W, 3)"}
    model = DeploymentGraph(original, scaling, probe.form, probe.tensor, len(labels), sizes.fixed).build(about)
    with TemporaryDirectory() as staging:
        made = Path(staging, f"{name}.onnx")
        _save(model, made)
        card = _card(original, scaling, probe, sizes, name, labels, options)
        card = replace(card, parameters=parameters(model), files={"fp32": _entry(made)})
        parity, notes = _checked(Artifact(card, Path(staging)), probe, picture.batch)
        card = replace(card, engine_order=tuple(parity))
        with atomic_path(folder / made.name) as part:
            shutil.copyfile(made, part)
        card.save(folder / f"{name}.json")
    notes = [*_notes(original, probe, sizes, options), *notes]
    return Imported(Artifact(card, folder), parity, notes)


def gate_sizes(card: Card) -> list[Size]:
    """The sizes for the parity check: the network's default, and one of another aspect ratio if allowed."""
    return list(dict.fromkeys((card.nearest_size(card.train_size), card.nearest_size((192, 320)))))


def _checked(artifact: Artifact, probe: Probe, batch: int | None) -> tuple[dict[str, Parity], list[str]]:
    """Engine -> parity for those that match the original, onnxruntime among them; and why others do not."""
    found: dict[str, Parity] = {}
    notes = []
    sizes = gate_sizes(artifact.card)
    for size_hw in sizes:
        pictures = gate_pictures(size_hw)
        expected = [probe.answer(picture) for picture in pictures]
        for engine in ("onnxruntime", *_OTHER_ENGINES):
            if not available(engine) or (engine not in found and size_hw != sizes[0]):
                continue
            try:
                here = check_parity(engine, artifact, size_hw, pictures, expected)
            except RtsegError as error:
                if engine == "onnxruntime" and isinstance(error, EngineError) and (batch or 1) > 1:
                    raise UsageError(f"the graph takes {batch} pictures at once and cannot do with one, as rtseg runs "
                                     "it: export it with a batch of 1, or with a free one") from error  # fmt: skip
                if engine == "onnxruntime":
                    raise
                found.pop(engine, None)
                notes.append(f"{engine} is left out of --engine auto: {error}")
                continue
            last = found.get(engine, here)
            found[engine] = Parity(
                min(last.agreement, here.agreement), max(last.drift, here.drift), max(last.classes, here.classes)
            )
    return found, notes


def _card(
    original: Original,
    scaling: Scaling,
    probe: Probe,
    sizes: Sizes,
    name: str,
    labels: LabelSet,
    options: ImportOptions,
) -> Card:
    picture = original.picture
    return Card(
        name=name,
        model=IMPORTED,
        config={},
        labels=labels,
        size_multiple=sizes.multiple,
        logits_stride=sizes.stride,
        train_size=sizes.fixed or options.size or DEFAULT_SIZE,
        parameters=0,
        gmac_1024x2048=0.0,
        files={},
        recipe={
            "imported": {
                "file": original.path.name,
                "sha256": file_sha256(original.path),
                "opset": original.opset,
                "input": f"{picture.dtype} {'nhwc' if picture.channels_last else 'nchw'} {scaling.order}",
                "output": f"{probe.form.kind} {probe.tensor}",
            }
        },
        data_terms=options.data_terms,
        normalisation={} if picture.dtype == np.uint8 else scaling.of_unit_rgb(),
        fixed_size=sizes.fixed,
        output="labels" if probe.form.kind == "labels" else "logits",
    )


def _notes(original: Original, probe: Probe, sizes: Sizes, options: ImportOptions) -> list[str]:
    """Findings and decisions for a person to check."""
    form = probe.form
    notes = []
    if sizes.fixed is not None:
        notes.append(f"input size: {format_size(sizes.fixed)} only; every frame is resized to it, whatever its shape")
    else:
        rule = "any" if sizes.multiple == 1 else f"multiples of {sizes.multiple}"
        size = options.size or DEFAULT_SIZE
        said = "" if options.size else "; --size says what it was trained at, where you know it"
        shape = f"the frame's shape with as many pixels as {format_size(size)}"
        notes.append(f"input size: {rule}; by default {shape}{said}")
    if form.kind == "labels":
        notes.append("output: labels only, without scores: they are enlarged to the frame by nearest neighbour, with "
                     "coarser outlines than logits give")  # fmt: skip
        if (scores := scores_behind(original)) is not None:
            notes.append(f"they are the best of {scores!r}: --output-name {scores} takes those scores instead")
    else:
        notes.append(f"output: {form.kind} of {probe.tensor!r}, one for {sizes.stride}x{sizes.stride} pixels")
    if form.kind == "probabilities":
        notes.append("their logarithms are the logits that are enlarged")
    if probe.tensor != original.output:
        notes.append("its last bilinear enlargement is left out: that of rtseg gives the same labels for less work")
    return notes


def _save(model: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.save(model, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; check free space") from error
    except Exception as error:  # protobuf's exceptions differ between its implementations
        raise UsageError(f"the graph cannot be stored in one file ({error}): a file holds at most 2 GB") from error


def _entry(path: Path) -> CardFile:
    return CardFile(path.name, file_sha256(path), path.stat().st_size)
