"""`rtseg data list|check|import`: shows which data sets can be read, checks one, and makes new ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App, Parameter
from rich.box import SIMPLE
from rich.table import Column, Table
from rich.text import Text

from rtseg.apps._console import plain_console, tracked
from rtseg.core.errors import InputError, UsageError
from rtseg.core.files import write_json

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.datasets import DataSet
    from rtseg.datasets.check import CheckReport, SplitReport

app = App(name="data", help="List the data sets, check one for mistakes, or import annotations.")
app.command(
    "rtseg.apps._import_data:command",
    name="import",
    help="Turn an export from CVAT, LabelMe, Label Studio, COCO or YOLO into a folder to train on.",
)


@app.command(name="list")
def list_sets() -> None:
    """List the data sets: classes, splits, and the contents of their folder."""
    from rtseg.datasets import DATASETS
    from rtseg.datasets.classes import FILE

    console = plain_console()
    for name in DATASETS:
        kind = DATASETS.get(name)
        labels = getattr(kind, "labels", None)
        classes = f"{len(labels)} classes" if labels is not None else f"the classes of {FILE}"
        console.print(Text.assemble((name, "bold"), f": {classes}; splits {', '.join(kind.splits)}"))
        console.print(f"    {kind.layout or 'no folder: the pictures are generated'}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What `rtseg data check` takes.

    Attributes:
        data: Data set (`rtseg data list` names them).
        root: The data set's folder.
        picture: Write sample pictures to this file, each beside its labels in colours.
        json: Write the results to this file.
        alike: Pictures of two splits that differ in at most this many bits of their 256-bit hash count as
            near-duplicates; -1 turns this off. Frames of a video 1/15 s apart differ in about 20 bits, different places
            in more than 70.
        first: How many problems of each kind to list one by one; all are counted.
    """

    data: str = "folder"
    root: Path | None = None
    picture: Path | None = None
    json: Path | None = None
    alike: int = 32
    first: int = 5

    def __post_init__(self) -> None:
        if not -1 <= self.alike <= 256 or self.first < 0:
            raise UsageError(f"--alike is -1 to 256 and --first 0 or more, not {self.alike} and {self.first}")


@app.command(name="check")
def command(options: CheckOptions | None = None) -> int:
    """Check a data set for mistakes, and report how often each class occurs.

    Finds missing, unreadable and stray files, sizes that do not match, labels that belong to no class, and
    near-duplicates across splits. Exits with 0 if it finds no mistakes, else with 3.
    """
    from rtseg.apps._overwrite import check_outputs
    from rtseg.sinks.base import check_picture

    options = options or CheckOptions()
    check_outputs({"--picture": options.picture, "--json": options.json}, {"a file of the data set": [options.root]})
    if options.picture is not None:
        check_picture(options.picture)
    return check_set(options)


def check_set(options: CheckOptions) -> int:
    """Checks the splits, prints and writes the results; returns 0, or 3 if something is wrong."""
    from rtseg.core.machine import cores
    from rtseg.datasets.check import check
    from rtseg.datasets.sheet import sample_sheet
    from rtseg.pictures.lettering import unwritten
    from rtseg.sinks.base import write_picture

    sets = open_splits(options)
    report = check(sets, options.alike, cores(), tracked)
    tell(report, options.first)
    if options.picture is not None:
        write_picture(options.picture, sample_sheet(sets))
        if note := unwritten(sets[0].labels):
            plain_console().print(note)
    if options.json is not None:
        root = None if options.root is None else str(options.root)
        write_json(options.json, {"data": options.data, "root": root, **report.to_json(options.first)})
    return 0 if report.clean else InputError.exit_code


def open_splits(options: CheckOptions) -> "list[DataSet]":
    """Opens every existing split; if there is none, the first split's error says what is missing."""
    from rtseg.datasets import DATASETS, open_data

    kind = DATASETS.get(options.data)
    splits = kind.present(options.root) if options.root is not None or not kind.layout else []
    return [open_data(options.data, options.root, split) for split in splits or kind.splits[:1]]


def tell(report: "CheckReport", first: int) -> None:
    """Prints the figures as a table, then the problems."""
    from rtseg.core.sizes import format_size
    from rtseg.datasets.check import DOUBTS, KINDS

    console = plain_console()
    table = Table(
        Column("class", overflow="fold"), *(f"{split}\npixels, pictures" for split in report.splits), box=SIMPLE
    )
    for index, name in [*enumerate(report.labels.names), (report.labels.ignore_index, "not labelled")]:
        table.add_row(name, *(_share(split, index) for split in report.splits.values()))
    console.print(table)
    for name, split in report.splits.items():
        sizes = ", ".join(f"{count} of {format_size(size)}" for size, count in split.sizes.most_common(3))
        more = f" and {len(split.sizes) - 3} more sizes" if len(split.sizes) > 3 else ""
        console.print(f"{name}: {split.pictures} pictures, {sizes or 'none usable'}{more}")
    for kind, lines in report.problems.items():
        _list(console, KINDS[kind], lines, first, "bold red")
    if report.doubts:
        _list(console, DOUBTS, report.doubts, first, "bold")
    if report.clean:
        console.print("no problems found")


def _list(console: "Console", title: str, lines: list[str], first: int, style: str) -> None:
    console.print(f"{len(lines)} {title}", style=style)
    for line in lines[:first]:
        console.print(f"  {line}")
    if len(lines) > first:
        console.print(f"  and {len(lines) - first} more: --first {len(lines)} lists them")


def _share(split: "SplitReport", index: int) -> str:
    total = max(1, int(split.pixels.sum()))
    return f"{100 * split.pixels[index] / total:.2f} %, {split.occurs_in[index]}"
