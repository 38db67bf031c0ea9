"""Street scenes as a data set: many seeds, a few moments of each, at CamVid's size."""

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from rtseg.core.labels import CAMVID11
from rtseg.core.sizes import Size
from rtseg.datasets.base import DataSet, Sample
from rtseg.scenes import StreetScene

# split -> (first seed, scenes); the splits share no seed
_SEEDS = {"train": (1000, 400), "val": (0, 20)}
_MOMENTS = 2
_SECONDS_APART = 3.7


class Scenes(DataSet):
    """Procedural street scenes (`rtseg.scenes`); needs no folder."""

    name: ClassVar[str] = "scenes"
    splits: ClassVar[tuple[str, ...]] = tuple(_SEEDS)
    labels = CAMVID11
    size_hw = (360, 480)

    def __init__(self, root: Path | None = None, split: str = "val") -> None:
        super().__init__(root, split)
        self.first_seed, self.scenes = _SEEDS[split]

    def __len__(self) -> int:
        return self.scenes * _MOMENTS

    def sample(self, index: int) -> Sample:
        scene, moment = divmod(index, _MOMENTS)
        image, labels = _street(self.size_hw, self.first_seed + scene).render(moment)
        return Sample(f"scene{self.first_seed + scene}_{moment}", image, labels)


@lru_cache(maxsize=1)  # setting up takes ten times as long as rendering
def _street(size_hw: Size, seed: int) -> StreetScene:
    return StreetScene(size_hw, seed=seed, fps=1 / _SECONDS_APART)
