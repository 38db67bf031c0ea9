"""An earlier run in the same folder: how far it got, and whether this run may continue it."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.files import read_json
from rtseg.core.zoo import BEST, BEST_CARD
from rtseg.training.checkpoint import load_tree
from rtseg.training.config import TrainConfig


@dataclass(frozen=True)
class Begun:
    """What a checkpoint says about its run.

    Attributes:
        epochs_done: completed epochs.
        settings: settings that a resumed run must share with it.
        cycle_from: epochs after which its schedule began: 0, or more if a finished run was extended.
    """

    epochs_done: int
    settings: dict[str, Any]
    cycle_from: int = 0


def read_begun(checkpoint: Path) -> Begun | None:
    """Reads the run of `last.ckpt`; None if there is none. Raises WeightsError if it is damaged."""
    if not checkpoint.is_file():
        return None
    try:
        saved = load_tree(checkpoint)
        return Begun(saved["epoch"] + 1, saved.get("settings", {}), saved.get("cycle_from", 0))
    except (WeightsError, LookupError, TypeError) as error:
        why = error if isinstance(error, WeightsError) else f"{checkpoint} is no checkpoint of a run"
        raise WeightsError(f"{why}; the run in {checkpoint.parent} cannot be resumed: give another --output, with "
                           f"--init {checkpoint.parent / BEST} to go on from its best weights, or remove "
                           f"{checkpoint.name} to start over") from error  # fmt: skip


def lost_best(folder: Path) -> str | None:
    """Why a run's best weights are gone, or None if they and their card are there."""
    card = folder / BEST_CARD
    try:
        load_tree(folder / BEST)
        read_json(card)
    except WeightsError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"{card} is missing or damaged: {error}"
    return None


def is_reported(folder: Path) -> bool:
    """Whether the report in a run's folder describes the run's best weights."""
    cards = [folder / "report" / "card.json", folder / BEST_CARD]
    return all(card.is_file() for card in cards) and cards[0].read_bytes() == cards[1].read_bytes()


def go_on(begun: Begun, settings: dict[str, Any], output: Path) -> int:
    """Returns the epochs after which the resumed run's schedule begins; extending a finished run restarts it.

    Raises:
        UsageError: the run was started with other settings.
    """
    before = begun.settings
    if "data_set" not in before:  # older checkpoints only store the number of pictures
        before = {**before, "data_set": settings.get("data_set")}
    since = {field.name: field.default for field in fields(TrainConfig) if field.name in settings}
    before = {**since, **before}  # options that did not exist yet count as their defaults
    finished = begun.epochs_done == before["epochs"]
    lengthened = finished and settings["epochs"] > before["epochs"]
    for name in dict.fromkeys((*settings, *before)):
        was, now = (_told(found.get(name)) for found in (before, settings))
        if was != now and not (name == "epochs" and lengthened):
            what = "data set: other pictures or classes" if name == "data_set" else f"{name} ({was}, now {now})"
            raise UsageError(f"the run in {output} was begun with another {what}: resume with that one, or give "
                             "another --output")  # fmt: skip
    return begun.epochs_done if lengthened else begun.cycle_from


def _told(value: Any) -> Any:
    """A setting in the form for comparing and printing: of a network its name and hash, as its figures may change."""
    if isinstance(value, dict):
        return f"{value['name']} {value['sha256'][:12]}…"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(_told(entry) for entry in value)
    return value
