"""From a trained network to the shipped form: ONNX file and card, written only after they pass the parity gate."""

import copy
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import rtseg
from rtseg.core.card import Card, CardFile, Exit
from rtseg.core.errors import UsageError
from rtseg.core.files import atomic_path, file_sha256
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact
from rtseg.export.calibrated import calibrated, keep_calibrated, there_already
from rtseg.export.exits import write_exits
from rtseg.export.halo import with_halos
from rtseg.export.onnx import export_graph, round_weights
from rtseg.export.parity import check_parity, street_frames
from rtseg.models import MODELS
from rtseg.models.base import SegmentationModel, count_inference_parameters, count_macs

log = logging.getLogger(__name__)

_PAPER_SIZE = (1024, 2048)
_HALO_IMAGES = 2


def export_network(
    model: SegmentationModel,
    name: str,
    labels: LabelSet,
    folder: Path,
    *,
    train_size: Size,
    images: Sequence[np.ndarray] = (),
    engine_order: Sequence[str] = ("onnxruntime",),
    metrics: Mapping[str, dict[str, Any]] | None = None,
    recipe: Mapping[str, Any] | None = None,
    data_terms: str = "",
    before: Artifact | None = None,
) -> Artifact:
    """Writes `folder/NAME.onnx` and its card `folder/NAME.json`; `model` itself is not changed.

    A network with exits also gets the graphs of its chain, `NAME.exit1.onnx` and so on. The calibration of an earlier
    export with the same weights is kept: the temperature, and where exits may be taken.

    Args:
        model: the trained network.
        name: its name for `--model`.
        labels: its classes.
        folder: created if it does not exist.
        train_size: (height, width) of its training pictures.
        images: uint8 BGR pictures for the parity gate; if empty, street scenes.
        engine_order: see `Card`, as for the rest.
        before: the earlier export; by default the one in the folder under that name.

    Raises:
        UsageError: the number of classes differs from the network's, or one of its weights would be missing in the
            file.
        ParityError: the ONNX file's labels differ from torch's; nothing is written.
        OutputError: the folder cannot be written.
    """
    shipped = _rounded(model, labels)
    images = images or street_frames()
    earlier = calibrated(shipped, before or there_already(folder, name))
    entry, exits = _write_graphs(shipped, name, labels, folder, images)
    card = Card(
        name=name,
        model=model_name(model),
        config=model.config_json(),
        labels=labels,
        size_multiple=model.size_multiple,
        logits_stride=model.logits_stride,
        train_size=train_size,
        parameters=count_inference_parameters(model),
        gmac_1024x2048=round(count_macs(model, _PAPER_SIZE) / 1e9, 2),
        files={"fp32": entry},
        engine_order=tuple(engine_order),
        metrics=dict(metrics or {}),
        recipe=dict(recipe or {}),
        data_terms=data_terms,
        normalisation=model.normalisation._asdict(),
        exits=exits,
    )
    if exits:
        log.info("measuring how much of the picture its regions need")
        card = with_halos(Artifact(card, folder), images[:_HALO_IMAGES])
    if earlier is not None:
        card = keep_calibrated(card, earlier)
    card.save(folder / f"{name}.json")
    return Artifact(card, folder)


def _write_graphs(
    shipped: SegmentationModel, name: str, labels: LabelSet, folder: Path, images: Sequence[np.ndarray]
) -> tuple[CardFile, tuple[Exit, ...]]:
    """Writes the network as one graph, and also as a chain if it has exits; all files or none."""
    path = folder / f"{name}.onnx"
    exits: tuple[Exit, ...] = ()
    with ExitStack() as stack:
        part = stack.enter_context(atomic_path(path))
        log.info("writing the graph of %s", name)
        about = describe(shipped, name, labels)
        if shipped.early:
            exits = write_exits(shipped, part, folder, name, about, labels, images, _PAPER_SIZE, stack)
        else:
            export_graph(shipped, part, about)
        log.info("comparing its labels with torch's")
        check_parity(part, shipped, labels, images)
        return CardFile(path.name, file_sha256(part), part.stat().st_size), exits


def export_labels(
    model: SegmentationModel, name: str, labels: LabelSet, folder: Path, images: Sequence[np.ndarray] = ()
) -> Path:
    """Writes `folder/NAME.labels.onnx`, which returns uint8 labels at the input size, for runtimes other than rtseg's.

    Raises the same errors as `export_network`.
    """
    shipped = _rounded(model, labels)
    path = folder / f"{name}.labels.onnx"
    with atomic_path(path) as part:
        log.info("writing the graph of %s", name)
        export_graph(shipped, part, describe(shipped, name, labels), output="labels")
        log.info("comparing its labels with torch's")
        check_parity(part, shipped, labels, images or street_frames(), output="labels")
    return path


def model_name(model: SegmentationModel) -> str:
    """The registry's name of a network's architecture."""
    return next(name for name in MODELS if MODELS.get(name) is type(model))


def describe(model: SegmentationModel, name: str, labels: LabelSet) -> dict[str, Any]:
    """The metadata of the ONNX file: enough to use it without its card."""
    return {
        "rtseg": rtseg.__version__,
        "name": name,
        "model": model_name(model),
        "config": model.config_json(),
        "labels": labels.to_json(),
        "size_multiple": model.size_multiple,
        "logits_stride": model.logits_stride,
        "normalisation": model.normalisation._asdict(),
        "input": "uint8 BGR (N, height, width, 3)",
    }


def _rounded(model: SegmentationModel, labels: LabelSet) -> SegmentationModel:
    if model.config.classes != len(labels):
        raise UsageError(f"the network has {model.config.classes} classes but {labels.name} has {len(labels)}")
    shipped = copy.deepcopy(model).cpu().eval()
    round_weights(shipped)
    return shipped
