"""`rtseg data import`: what an annotation tool exported becomes a folder that the other commands read."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from rtseg.apps._console import plain_console, tracked


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What `rtseg data import` takes.

    Attributes:
        output: The new folder; it must not exist yet.
        images: The folder with the pictures, if they are not beside or below SOURCE.
        classes: A classes.json with the classes, their order and their colours; by default the classes that the export
            lists, or else those that occur, sorted by name.
        background: The class for pixels outside all shapes, and for pictures without a shape; by default such pixels
            are not labelled, and such pictures are left out.
    """

    output: Path
    images: Path | None = None
    classes: Path | None = None
    background: str | None = None


def command(format: str, source: Path, /, *, options: ImportOptions) -> int:
    """Turn an export from CVAT, LabelMe, Label Studio, COCO or YOLO into a folder to train on, and check it.

    The folder has the layout of `--data folder`. Exits with 0 if the check finds no mistakes, else with 3. The folder
    is written in both cases, and `rtseg data check` repeats the check.

    Args:
        format: coco, cvat, labelme, label-studio or yolo.
        source: The exported file, or its folder.
    """
    from rtseg.apps._overwrite import check_outputs
    from rtseg.apps.data import CheckOptions, check_set
    from rtseg.core.paths import user_path
    from rtseg.datasets.imports import open_export
    from rtseg.datasets.imports.write import import_set

    source, output = user_path(source), user_path(options.output)
    read = {"the export": [source], "the pictures": [options.images], "the list of classes": [options.classes]}
    check_outputs({}, read, [("--output", output)])
    export = open_export(format, source, options.images)
    done = import_set(export, output, options.classes, options.background, tracked)
    console = plain_console()
    console.print(f"{done.pictures} pictures with their masks are in {output}")
    for note in done.notes:
        console.print(note)
    code: int = check_set(CheckOptions(root=output))
    return code
