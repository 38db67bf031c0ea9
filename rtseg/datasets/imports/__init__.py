"""Reads exports of annotation tools and writes them as a folder (`rtseg.datasets.folder`)."""

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
    """Opens an annotation tool's export.

    Args:
        name: of the format.
        source: the file, or the folder that holds it.
        images: the folder with the pictures, if they are not beside or below the source.

    Raises:
        UsageError: the format is unknown.
        InputError: the source is missing or not in that format.
    """
    kind = FORMATS.get(name)
    try:
        return kind(source, PictureFinder(source, images))
    except DAMAGE as error:
        raise damaged(source, kind.about, error) from error
