"""Networks that a run starts from or learns from: a shipped one, a user's ONNX file, or the result of another run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.files import file_sha256, read_json
from rtseg.core.labels import LabelSet
from rtseg.core.paths import user_path
from rtseg.core.sizes import Size
from rtseg.core.zoo import BEST, resolve
from rtseg.models import SegmentationModel, build_model
from rtseg.models.weights import load_weights, restore
from rtseg.training.checkpoint import load_tree

_TOLD = ("miou", "pixel_accuracy", "boundary_f1")


@dataclass(frozen=True)
class Origin:
    """A trained network whose weights have not been read yet.

    Attributes:
        name: its name in messages and in the cards of later networks.
        model: architecture, a name in the model registry.
        config: the config it is built with.
        labels: its classes.
        train_size: (height, width) of its training pictures.
        metrics: data set and split -> scores of its FP32 form.
        recipe: see `Card`.
        sha256: of the file with its weights.
        state: reads the weights, float32 by state-dict key; raises WeightsError.
        paths: its files.
        given: the name or path it was requested by.
    """

    name: str
    model: str
    config: dict[str, Any]
    labels: LabelSet
    train_size: Size
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    sha256: str
    state: Callable[[], dict[str, Tensor]]
    paths: list[Path]
    given: str

    def network(self) -> SegmentationModel:
        """The network with its weights, in evaluation mode; raises WeightsError if they do not fit."""
        model = build_model(self.model, self.config)
        restore(model, self.state(), self.name)
        return model.eval()

    def identity(self) -> dict[str, Any]:
        """Which network it is, its scores (not per class, because lineages grow) and how it was trained."""
        metrics = {split: {key: found[key] for key in _TOLD if key in found} for split, found in self.metrics.items()}
        return {"name": self.name, "sha256": self.sha256, "metrics": metrics, "recipe": self.recipe}


def find_origin(name: str) -> Origin:
    """Finds a network by its name, the path of an ONNX file, or the path of the `best.safetensors` of a run.

    Raises:
        UsageError: there is no such name, or it is that of a run's folder.
        WeightsError: a file or its card is missing or damaged.
    """
    if name.endswith(".safetensors"):
        return _of_run(name)
    try:
        artifact = resolve(name)
    except UsageError:
        best = (Path(name).parent if name.endswith(".ckpt") else Path(name)) / BEST
        if best.is_file():
            raise UsageError(f"{name} is a training run, of which the best weights are taken: give {best}") from None
        raise
    card = artifact.card
    return Origin(
        card.name, card.model, card.config, card.labels, card.train_size, card.figures(), card.recipe,
        card.files["fp32"].sha256, lambda: load_weights(artifact), artifact.paths, name,
    )  # fmt: skip


def _of_run(name: str) -> Origin:
    path = user_path(name)
    if not path.is_file():
        raise WeightsError(f"no such file: {path}")
    card_path = path.with_suffix(".json")
    try:
        card = read_json(card_path)
        labels = LabelSet.from_json(card["labels"])
        for key, kind in (("model", str), ("config", dict), ("metrics", dict), ("recipe", dict)):
            if not isinstance(card[key], kind):
                raise TypeError(f"its {key} is {card[key]!r}")
        return Origin(
            path.parent.name or path.stem, card["model"], card["config"], labels, tuple(card["train_size"]),
            card["metrics"], card["recipe"], file_sha256(path),
            lambda: {name: value.float() for name, value in load_tree(path).items()}, [path, card_path], name,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} needs the card that its run wrote beside it, {card_path.name}: {error}") from error
