"""What a network has seen in training: a figure on such pictures says nothing."""

from collections.abc import Iterator
from typing import Any

from rtseg.datasets import DATASETS


def seen_split(recipe: dict[str, Any], data: str, split: str) -> str | None:
    """What a network was trained on that shares pictures with a split, as 'DATA/SPLIT'; None where it saw none.

    Args:
        recipe: of the network's card; what the network started from and who taught it count too.
        data: name of the data set.
        split: of that data set.
    """
    for trained_on, seen in _trained_on(recipe):
        if _collection(trained_on) == _collection(data) and DATASETS.get(data).share_pictures(seen, split):
            return f"{trained_on}/{seen}"
    return None


def _collection(data: str) -> str:
    return (data in DATASETS and DATASETS.get(data).collection) or data


def _trained_on(recipe: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(data set, split) of the recipe and of those before it."""
    if "data" in recipe:
        yield recipe["data"], str(recipe.get("split"))
    for before in (recipe.get("init"), *(recipe.get("teachers") or ())):
        if before:
            yield from _trained_on(before.get("recipe") or {})
