"""Labelled pictures, read without torch, so that every engine can be scored on them."""

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
        UsageError: the data set or split is unknown, or `root` is missing although the data set needs it.
        InputError: the folder lacks something that the data set's layout requires.
    """
    return DATASETS.get(name)(root, split)
