"""Keeps a network's calibration when it is exported again with the same weights."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from rtseg.core.card import Card
from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.zoo import Artifact
from rtseg.models.base import SegmentationModel
from rtseg.models.weights import load_weights

log = logging.getLogger(__name__)


def there_already(folder: Path, name: str) -> Artifact | None:
    """The network of that name in `folder`, or None."""
    try:
        return Artifact(Card.load(folder / f"{name}.json"), folder)
    except WeightsError:  # no card, or an unreadable one
        return None


def calibrated(model: SegmentationModel, before: Artifact | None) -> Card | None:
    """The card of an earlier export, if it has a calibration that still holds for the network.

    If it no longer holds, because the weights differ, a note says that it is dropped.

    Args:
        model: the network, with its weights rounded for the file.
        before: the earlier export, if any.
    """
    if before is None:
        return None
    card = before.card
    if card.temperature == 1 and all(each.threshold is None and each.regions is None for each in card.exits):
        return None
    if _is_of(before, model):
        return card
    log.warning("%s was calibrated with other weights: that is dropped, and rtseg eval with --calibrate or "
                "--calibrate-exits finds it again", card.name)  # fmt: skip
    return None


def keep_calibrated(card: Card, before: Card) -> Card:
    """Adds the temperature of an earlier card, and the thresholds, regions and figures of its exits, to a card."""
    found = {each.name: each for each in before.exits}
    exits = (
        replace(each, threshold=old.threshold, regions=old.regions,
                metrics={precision: old.metrics[precision] for precision in each.files if precision in old.metrics})
        for each in card.exits if (old := found[each.name])
    )  # fmt: skip
    return replace(card, temperature=before.temperature, temperature_from=before.temperature_from, exits=tuple(exits))


def _is_of(artifact: Artifact, model: SegmentationModel) -> bool:
    """Whether an exported network is this very network, weights included."""
    if artifact.card.config != model.config_json():
        return False
    try:
        weights = load_weights(artifact)
    except (UsageError, WeightsError):  # its files do not match its card
        return False
    state = model.state_dict()
    return all(name in state and torch.equal(value, state[name]) for name, value in weights.items())
