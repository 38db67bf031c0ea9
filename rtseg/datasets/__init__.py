"""Labelled pictures, read without torch, so that any engine can be scored on them."""

from pathlib import Path

from rtseg.core.registry import Registry
from rtseg.datasets.base import DataSet, Sample

__all__ = ["DATASETS", "DataSet", "Sample", "open_data"]

DATASETS: Registry[type[DataSet]] = Registry(
    "data set",
    {
        "camvid": "rtseg.datasets.camvid:CamVid",
        "camvid-full": "rtseg.datasets.camvid_release:CamVidFull",
        "camvid32": "rtseg.datasets.camvid_release:CamVid32",
        "cityscapes": "rtseg.datasets.cityscapes:Cityscapes",
        "folder": "rtseg.datasets.folder:Folder",
        "scenes": "rtseg.datasets.scenes:Scenes",
    },
)


def open_data(name: str, root: Path | None, split: str) -> DataSet:
    """Opens one split of a data set.

    Raises:
        UsageError: unknown data set or split, or `root` is missing where the data set needs one.
        InputError: the folder does not hold what the data set's layout asks for.
    """
    return DATASETS.get(name)(root, split)
