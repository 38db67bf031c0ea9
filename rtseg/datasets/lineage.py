"""The data that a network saw in training, on which its scores say nothing."""

from collections.abc import Iterator
from typing import Any

from rtseg.datasets import DATASETS


def seen_split(recipe: dict[str, Any], data: str, split: str) -> str | None:
    """Training data of a network that shares pictures with a split, as 'DATA/SPLIT'; None if there is none.

    Args:
        recipe: of the network's card; includes the networks that it started from or that taught it.
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
    """(data set, split) of the recipe and of its ancestors."""
    if "data" in recipe:
        yield recipe["data"], str(recipe.get("split"))
    for before in (recipe.get("init"), *(recipe.get("teachers") or ())):
        if before:
            yield from _trained_on(before.get("recipe") or {})
