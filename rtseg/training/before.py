"""Checks of a run before anything slow, without torch, so that a mistyped option fails at once."""

import logging
from dataclasses import replace
from pathlib import Path

from rtseg.core.errors import InputError, UsageError
from rtseg.core.sizes import format_size
from rtseg.datasets import DATASETS, DataSet, open_data
from rtseg.datasets.classes import FILE
from rtseg.datasets.lineage import seen_split
from rtseg.training.config import TrainConfig
from rtseg.training.sparse import phases_of

log = logging.getLogger(__name__)

_SCENES = 0.15
_LARGE = 2 * 480 * 640  # pixels; the shipped networks are trained at 480x640


def read_data(config: TrainConfig) -> tuple[TrainConfig, DataSet, list[DataSet]]:
    """Returns the configuration completed from the data, the data to train on, and the holdouts.

    Raises:
        UsageError: a data set is unknown, or a holdout shares pictures with the training data.
        InputError: the data set cannot be read, or has no labelled pixel.
    """
    phases_of(config)
    config = replace(config, data=data_of(config.data, config.root))
    kind = DATASETS.get(config.data)
    split, held_out = config.split or kind.default_split, config.holdouts or kind.default_holdouts
    data = open_data(config.data, config.root, split)
    holdouts = [open_data(config.data, config.root, held) for held in held_out]
    config = replace(config, split=split, holdouts=held_out, scenes=share_of_scenes(config, data))
    check_unseen("this run", {"data": config.data, "split": split}, config)
    check_labelled(data, *holdouts)
    say_shared(data, holdouts)
    say_size(config, data)
    return config, data, holdouts


def say_shared(data: DataSet, holdouts: list[DataSet]) -> None:
    """Warns of pictures that are in two splits: they are trained on and also scored."""
    trained = set(data.picture_names())
    for held in holdouts:
        if shared := sorted(trained.intersection(held.picture_names())):
            log.warning(
                "%d of the %d pictures of %s are trained on too (%s%s): its figures say little about other pictures",
                len(shared), len(held), held.split, ", ".join(shared[:3]), ", …" if len(shared) > 3 else "",
            )  # fmt: skip


def say_size(config: TrainConfig, data: DataSet) -> None:
    """Warns of large pictures, because the network also runs at the size it is trained at."""
    height, width = data.size_hw
    if config.train_size is None and height * width > _LARGE:
        log.warning(
            "the network will run at the pictures' %s, with %.1f times the arithmetic of 480x640, at which those that "
            "ship run: --train-size %s takes a quarter of it",
            format_size((height, width)), height * width / (480 * 640), format_size((height // 2, width // 2)),
        )  # fmt: skip


def data_of(name: str, root: Path | None) -> str:
    """Resolves 'auto': the data set folder if it holds the description of its classes, else camvid."""
    if name != "auto":
        return name
    return "folder" if root is not None and (root / FILE).is_file() else "camvid"


def check_unseen(name: str, recipe: dict[str, object], config: TrainConfig) -> None:
    """Raises UsageError if a holdout has pictures that `name`, trained as in `recipe`, has seen."""
    seen = {held: seen_split(recipe, config.data, held) for held in config.holdouts or ()}
    unseen = " ".join(f"--holdouts {held}" for held, split in seen.items() if split is None)
    for held, split in seen.items():
        if split is not None:
            raise UsageError(f"{name} is trained on {split}, which has pictures of the holdout {held}: "
                             f"give {unseen or 'other --holdouts, or train on another --split'}")  # fmt: skip


def check_labelled(*sets: DataSet) -> None:
    """Raises InputError for a split without a single labelled pixel, which can be neither trained on nor scored."""
    for data in sets:
        if not any((sample.labels != data.labels.ignore_index).any() for sample in data):
            raise InputError(f"split {data.split} of {data.name} has no labelled pixel: use one that has")


def share_of_scenes(config: TrainConfig, data: DataSet) -> float:
    """The requested share, or the default if street scenes have the data set's classes and are not all of the data.

    Raises:
        UsageError: street scenes are requested but have other classes.
    """
    fit = DATASETS.get("scenes").labels == data.labels
    if config.scenes and not fit:
        raise UsageError(f"street scenes have other classes than {data.name}: leave --scenes out")
    return config.scenes if config.scenes is not None else _SCENES * (fit and data.name != "scenes")
