"""What a data set is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from rtseg.core.labels import LabelSet
from rtseg.core.registry import unknown_name
from rtseg.core.sizes import Size


@dataclass(frozen=True)
class Sample:
    """One labelled picture: `image` uint8 BGR (H, W, 3), `labels` uint8 (H, W) with the set's ignore index."""

    name: str
    image: np.ndarray
    labels: np.ndarray


class DataSet(ABC):
    """One split of labelled pictures with random access; sample i is the same at every call.

    Attributes:
        labels: the classes.
        size_hw: size of the pictures.
        parts: split -> splits that were cut from it, and so share its pictures.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    parts: ClassVar[dict[str, tuple[str, ...]]] = {}
    labels: LabelSet
    size_hw: Size

    def __init__(self, root: Path | None, split: str) -> None:
        if split not in self.splits:
            raise unknown_name(f"split of {self.name}", split, list(self.splits))
        self.root, self.split = root, split

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """The labelled picture at `index`; raises InputError where its files cannot be read."""

    @classmethod
    def share_pictures(cls, one: str, other: str) -> bool:
        """Whether two splits have pictures in common."""
        return one == other or other in cls.parts.get(one, ()) or one in cls.parts.get(other, ())

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(index) for index in range(len(self)))
