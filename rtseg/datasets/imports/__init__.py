"""Reads what annotation tools export, and writes it as a folder of one's own (`rtseg.datasets.folder`)."""

from pathlib import Path

from rtseg.core.registry import Registry
from rtseg.datasets.imports.base import DAMAGE, Export, damaged
from rtseg.datasets.imports.pictures import PictureFinder

__all__ = ["FORMATS", "open_export"]

FORMATS: Registry[type[Export]] = Registry(
    "format",
    {
        "coco": "rtseg.datasets.imports.coco:Coco",
        "cvat": "rtseg.datasets.imports.cvat:Cvat",
        "label-studio": "rtseg.datasets.imports.label_studio:LabelStudio",
        "labelme": "rtseg.datasets.imports.labelme:LabelMe",
        "yolo": "rtseg.datasets.imports.yolo:Yolo",
    },
)


def open_export(name: str, source: Path, images: Path | None = None) -> Export:
    """Opens what a tool exported.

    Args:
        name: of the format.
        source: the file, or the folder that holds it.
        images: the folder that holds the pictures, where they are not beside or below the source.

    Raises:
        UsageError: unknown format.
        InputError: the source is missing, or is not of the format.
    """
    kind = FORMATS.get(name)
    try:
        return kind(source, PictureFinder(source, images))
    except DAMAGE as error:
        raise damaged(source, kind.about, error) from error
