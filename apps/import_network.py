"""`rtseg import`: takes a network from any framework and writes what every command runs."""

import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from rtseg.apps._console import plain_console
from rtseg.core.errors import EngineError, OutputError, UsageError
from rtseg.core.sizes import parse_size

if TYPE_CHECKING:
    from rtseg.importing.network import Imported

_Numbers = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImportChoices:
    """What `rtseg import` takes.

    Attributes:
        name: Name of the network and its files.
        classes: cityscapes, ade20k, voc, coco-stuff or camvid11; or a JSON file: a list of names, a classes.json, a
            card of rtseg, or the config.json of a transformers model.
        folder: Where NAME.onnx and NAME.json go.
        preset: How pictures are scaled for it: imagenet (torchvision, timm, most of transformers), half (-1..1) or unit
            (0..1); or use the next four options.
        mean: Subtracted from the values: three numbers in the order of --order, or one for all.
        std: The result is divided by this.
        order: rgb or bgr.
        scale: The values 0..255 are divided by this before --mean is subtracted; by default 255.
        output: The kind of output: logits, probabilities or labels; needed only if the graph leaves it open.
        output_name: Which of several outputs; or a tensor inside the graph.
        layout: nchw or nhwc; needed only if the graph leaves it open.
        size: HEIGHTxWIDTH of the pictures in training: inputs have that many pixels by default (512x512 if you leave it
            out). For a graph that takes only one size, that size.
        data_terms: Where the training pictures come from, and what may be done with the weights.
        overwrite: Replace an existing network of that name in the folder.
    """

    name: str | None = None
    classes: str | None = None
    folder: Path = Path(".")
    preset: Literal["imagenet", "half", "unit"] | None = None
    mean: _Numbers = ()
    std: _Numbers = ()
    order: Literal["rgb", "bgr"] | None = None
    scale: float | None = None
    output: Literal["logits", "probabilities", "labels"] | None = None
    output_name: str | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    size: str | None = None
    data_terms: str = ""
    overwrite: Annotated[bool, Parameter(negative="")] = False


_DEFAULTS = ImportChoices()


def command(file: Path, /, choices: ImportChoices = _DEFAULTS) -> None:
    """Import a network of your own, an ONNX file from any framework, for every command and for Python.

    Shapes are read from the graph, and what they do not say is found by running it. Scaling and colour order become
    part of the graph. The network is written only if it gives the original's labels.

    Args:
        file: The ONNX file.
    """
    if find_spec("onnx") is None:
        raise EngineError("rtseg import needs the package onnx, which is not installed: pip install onnx")
    from rtseg.apps._overwrite import check_outputs
    from rtseg.importing.classes import find_classes
    from rtseg.importing.network import ImportOptions, import_network

    if choices.name is None:
        raise UsageError("--name is not given: the files are called NAME.onnx and NAME.json")
    if choices.classes is None:
        raise UsageError("--classes is not given: a graph does not say what its channels mean; give cityscapes, "
                         "ade20k, voc, coco-stuff, camvid11 or a JSON file with the names")  # fmt: skip
    outputs = [("--name", choices.folder / f"{choices.name}{suffix}") for suffix in (".onnx", ".json")]
    check_outputs({}, {"the network to import": [file], "its classes": [Path(choices.classes)]}, outputs)
    there = [path for _, path in outputs if path.exists()]
    if there and not choices.overwrite:
        raise OutputError(f"{there[0]} exists already: choose another --name or --folder, or add --overwrite")
    options = ImportOptions(
        preset=choices.preset,
        mean=_numbers(choices.mean, "--mean"),
        std=_numbers(choices.std, "--std"),
        order=choices.order,
        scale=choices.scale,
        output=choices.output,
        output_name=choices.output_name,
        layout=choices.layout,
        size=None if choices.size is None else parse_size(choices.size),
        data_terms=choices.data_terms,
    )
    imported = import_network(file, choices.name, find_classes(choices.classes), choices.folder, options)
    report(imported, choices.folder / f"{choices.name}.onnx")


def report(imported: "Imported", path: Path) -> None:
    """Prints what was found, how close the result is, and how to run it."""
    console = plain_console()
    card = imported.artifact.card
    for note in imported.notes:
        console.print(note)
    for engine, parity in imported.parity.items():
        same = f"{parity.agreement:.2%} of the original's labels ({parity.classes} in the test pictures)"
        console.print(f"{engine}: {same}" + ("" if card.gives_labels else f", scores off by {parity.drift:.1e}"))
    if max(parity.classes for parity in imported.parity.values()) == 1:
        console.print("the network found only one class in the test pictures, so equal labels say little: look at "
                      "its labels on your own pictures before you trust it")  # fmt: skip
    size_mib = card.files["fp32"].bytes / 2**20
    console.print(f"{path}: {size_mib:.1f} MiB, {len(card.labels)} classes of {card.labels.name}")
    console.print(f"rtseg-cam --model {shlex.quote(str(path))}")


def _numbers(words: tuple[str, ...], option: str) -> tuple[float, ...]:
    """('0.485,0.456,0.406',) or ('0.485', '0.456', '0.406') -> numbers."""
    try:
        return tuple(float(word) for text in words for word in text.split(",") if word.strip())
    except ValueError:
        given = " ".join(words)
        raise UsageError(f"{option} {given!r} is not made of numbers, for example 0.485,0.456,0.406") from None
