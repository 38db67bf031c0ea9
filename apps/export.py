"""`rtseg export`: makes the ONNX file of a network, and its card."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rtseg.apps._console import plain_console
from rtseg.apps._idle import refuse_idle
from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.files import read_json
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.core.zoo import BEST, BEST_CARD

if TYPE_CHECKING:
    import numpy as np

    from rtseg.models import SegmentationModel

_ORDER = "onnxruntime,openvino,torch"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `rtseg export` takes.

    Attributes:
        checkpoint: A training run's best.safetensors, with best.json beside it.
        model: Instead of a checkpoint: a network that ships, or the path of an ONNX file with its card beside it.
        untrained: With --model NAME of any architecture: use random weights, to try things out.
        output: logits (for rtseg's engines), or labels: uint8 labels at the input's size, for other runtimes.
        name: Name of the files; by default the name of the network.
        folder: Where NAME.onnx and NAME.json go.
        data: Data set with pictures for the parity gate; street scenes by default.
        root: That data set's folder.
        split: That data set's split.
        engines: The order in which `--engine auto` tries them, fastest first; by default onnxruntime, openvino, torch,
            or the order in the card of --model.
        data_terms: Where the training pictures come from, and what may be done with the weights; by default empty, or
            the text in the card of --model.
        seed: Seed of the random weights.
        exits: With --checkpoint of an icnet: let it stop early at this many of the auxiliary classifiers that it was
            trained with. By default a network has the exits from --set exits in training.
    """

    checkpoint: Path | None = None
    model: str | None = None
    untrained: Annotated[bool, Parameter(negative="")] = False
    output: Literal["logits", "labels"] = "logits"
    name: str | None = None
    folder: Path = Path(".")
    data: str | None = None
    root: Path | None = None
    split: str = "val"
    engines: str | None = None
    data_terms: str | None = None
    seed: int = 0
    exits: int | None = None


@dataclass(frozen=True)
class Trained:
    """A torch network, and the other arguments for `export_network`."""

    model: "SegmentationModel"
    name: str
    labels: LabelSet
    card: dict[str, Any]


def command(options: ExportOptions | None = None) -> None:
    """Export a network as an ONNX file, which is written only if it gives the same labels as torch."""
    options = options or ExportOptions()
    check_options(options)  # before torch is loaded
    from rtseg.export.network import export_labels, export_network

    console = plain_console()
    logging.getLogger("rtseg.export").setLevel(logging.INFO)  # shows the progress, since it takes a minute
    network = load(options)
    name = options.name or network.name.replace(":", "-")  # smp:unet:resnet34 is not a valid file name everywhere
    check_files(options, name)
    images = gate_images(options)
    if options.output == "labels":
        path = export_labels(network.model, name, network.labels, options.folder, images)
    else:
        export_network(network.model, name, network.labels, options.folder, images=images, **network.card)
        path = options.folder / f"{name}.onnx"
    console.print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, gives the same labels as torch")


def check_options(options: ExportOptions) -> None:
    """Checks everything that can be checked without reading a network.

    Raises:
        UsageError: the options name no network, or two, or a file of a run that has no weights of its own.
        WeightsError: a file is missing.
    """
    if (options.checkpoint is None) == (options.model is None):
        raise UsageError("give either --checkpoint RUN/best.safetensors or --model NAME")
    if options.name and Path(options.name).name != options.name:
        raise UsageError(f"--name {options.name!r} must be a plain name without folder: give that with --folder")
    if options.data is None:
        refuse_idle(options, ("root", "split"), "is for the data set of the parity gate: add --data")
    if not options.untrained:
        refuse_idle(options, ("seed",), "is for random weights: add --untrained")
    if options.output == "labels":
        refuse_idle(options, ("engines", "data_terms"), "is for a card, and --output labels has none: take logits")
    if options.checkpoint is None:
        if options.exits is not None:
            raise UsageError("--exits needs --checkpoint: an exported network has no auxiliary classifiers any more")
        return
    if options.untrained:
        raise UsageError("--untrained needs --model: a checkpoint has weights")
    path = options.checkpoint
    if path.is_dir() or path.suffix == ".ckpt":
        best = (path if path.is_dir() else path.parent) / BEST
        raise UsageError(f"--checkpoint {path} is {'a folder' if path.is_dir() else 'for resuming a run'}: "
                         f"give its best weights, {best}")  # fmt: skip
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise WeightsError(f"no such file: {file}; rtseg train writes {BEST} and {BEST_CARD}")


def check_files(options: ExportOptions, name: str) -> None:
    """Raises UsageError if a file of that name would replace what the network or its pictures are read from."""
    from rtseg.apps._overwrite import check_outputs
    from rtseg.core.zoo import resolve

    read: list[Path] = []
    if options.checkpoint is not None:
        read = [options.checkpoint, options.checkpoint.with_suffix(".json")]
    elif options.model is not None and not options.untrained:
        read = resolve(options.model).paths
    inputs = {"the network that it is made of": read, "a file of the data set": [options.root]}
    suffixes = (".labels.onnx",) if options.output == "labels" else (".onnx", ".json")
    check_outputs({}, inputs, [("--folder", options.folder / f"{name}{suffix}") for suffix in suffixes])


def load(options: ExportOptions) -> Trained:
    """Loads the network that the options name; raises WeightsError if a file is damaged."""
    if options.checkpoint is not None:
        return from_checkpoint(options.checkpoint, options)
    assert options.model is not None
    if options.untrained:
        return untrained(options.model, options)
    from rtseg.core.zoo import resolve
    from rtseg.models.weights import load_network

    artifact = resolve(options.model)
    kept = ("train_size", "engine_order", "metrics", "recipe", "data_terms")
    card = {**{field: getattr(artifact.card, field) for field in kept}, "before": artifact}
    if options.engines is not None:
        card["engine_order"] = engine_order(options)
    if options.data_terms is not None:
        card["data_terms"] = options.data_terms
    return Trained(load_network(artifact), artifact.card.name, artifact.card.labels, card)


def untrained(model: str, options: ExportOptions) -> Trained:
    """A network with random weights for CamVid's classes."""
    import torch

    from rtseg.models import build_model

    torch.manual_seed(options.seed)
    card = {"train_size": (360, 480), "engine_order": engine_order(options), "data_terms": "untrained"}
    return Trained(build_model(model, {"classes": len(CAMVID11)}), model, CAMVID11, card)


def from_checkpoint(path: Path, options: ExportOptions) -> Trained:
    """Reads the output of `rtseg train`, weights and a JSON file that describes them; raises WeightsError."""

    from rtseg.models import build_model
    from rtseg.models.weights import restore
    from rtseg.training.checkpoint import load_tree

    beside = path.with_suffix(".json")
    try:
        about = read_json(beside)
        exits = {} if options.exits is None else {"exits": options.exits}
        model = build_model(about["model"], {**about["config"], **exits})
        labels = LabelSet.from_json(about["labels"])
        card = {
            "train_size": tuple(about["train_size"]),
            "engine_order": engine_order(options),
            "metrics": {"fp32": about["metrics"]},
            "recipe": about["recipe"],
            "data_terms": options.data_terms or "",
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        if options.exits is not None and isinstance(error, UsageError):
            raise  # the error is about this number
        raise WeightsError(f"{beside} does not describe a checkpoint of rtseg: {error}") from error
    weights = load_tree(path)
    restore(model, weights, str(path))
    lacking = [name for name, _ in model.named_parameters() if name not in weights]
    if options.exits and lacking:
        raise UsageError(f"{path} has no trained {lacking[0]}, which --exits {options.exits} needs: train it, "
                         f"rtseg train --init {path} --set exits={options.exits}")  # fmt: skip
    return Trained(model.eval(), about["model"], labels, card)


def engine_order(options: ExportOptions) -> tuple[str, ...]:
    """The names in `--engines`; raises UsageError for an unknown one."""
    from rtseg.engines import ENGINES

    return tuple(ENGINES.check(name.strip()) for name in (options.engines or _ORDER).split(","))


def gate_images(options: ExportOptions, count: int = 6) -> "list[np.ndarray]":
    """Pictures for the parity gate, evenly spread over the split; empty if no data set is given."""
    if options.data is None:
        return []
    from rtseg.datasets import open_data

    data = open_data(options.data, options.root, options.split)
    return [data.sample(index * len(data) // count).image for index in range(count)]
