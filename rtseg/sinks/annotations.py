"""Labels in the formats of annotation tools: COCO, CVAT for images 1.1, LabelMe.

COCO's run lengths hold the labels exactly. CVAT and LabelMe get editable polygons (`rtseg.pictures.outlines`). Neither
has holes, so what lies in a hole is drawn on top of what surrounds it: by `z_order`, and by its position in the file.

COCO and CVAT need one file for all pictures. It is assembled from lines, one per picture (`CocoLines`, `CvatLines`), by
`join_coco` and `join_cvat`.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np

from rtseg.core.errors import OutputError
from rtseg.core.files import atomic_path
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.pictures.outlines import outlines
from rtseg.pictures.rle import rle_text, run_lengths
from rtseg.sinks.base import Sink

_CLASSES = 256  # the most annotations of a picture: one per class
_LABELME = "5.5.0"  # the version of the format
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Lines(Sink):
    """Writes one line of text per frame.

    Args:
        path: the file.
        labels: the classes.
        name_of: returns the name of a frame's picture.
    """

    def __init__(self, path: Path, labels: LabelSet, name_of: Callable[[int], str]) -> None:
        self._path = path
        self._labels = labels
        self._name_of = name_of
        self._file: TextIO = self._open()

    def _open(self) -> TextIO:
        try:
            return self._path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise self._error(error) from error

    @abstractmethod
    def line(self, index: int, name: str, labels: np.ndarray) -> str:
        """The text for a frame, without a line feed."""

    def write(self, frame: Frame, labels: np.ndarray, picture: np.ndarray) -> None:
        try:
            self._file.write(self.line(frame.index, self._name_of(frame.index), labels) + "\n")
        except OSError as error:
            raise self._error(error) from error
        self.frames += 1

    def close(self, complete: bool = True) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._path}: {error.strerror or error}; check the folder and free space")


class CocoLines(Lines):
    """One line per frame: the picture's entry, and an annotation for every class in it."""

    def line(self, index: int, name: str, labels: np.ndarray) -> str:
        height, width = labels.shape
        image = {"id": index + 1, "file_name": name, "height": height, "width": width}
        annotations = [
            _coco_annotation(index, label, runs, labels)
            for label, runs in run_lengths(labels).items() if label < len(self._labels)
        ]  # fmt: skip
        return json.dumps([image, annotations], separators=(",", ":"))


def _coco_annotation(index: int, label: int, runs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {
        "id": index * _CLASSES + label + 1,
        "image_id": index + 1,
        "category_id": label + 1,
        "segmentation": {"size": list(labels.shape), "counts": rle_text(runs)},
        "area": int(runs[1::2].sum()),
        "bbox": [int(value) for value in cv2.boundingRect((labels == label).astype(np.uint8))],
        "iscrowd": 0,
    }


def join_coco(path: Path, parts: Sequence[Path], labels: LabelSet) -> None:
    """Makes the COCO file from the lines of all frames; raises OutputError. Categories start at 1, as in COCO."""
    categories = [
        {"id": index + 1, "name": name, "supercategory": labels.name, "color": list(colour)}
        for index, (name, colour) in enumerate(zip(labels.names, labels.palette_rgb, strict=True))
    ]
    with atomic_path(path) as made, made.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"categories": {json.dumps(categories)},\n"images": [')
        _list(file, (json.dumps(json.loads(line)[0]) for line in _lines(parts)))
        file.write('],\n"annotations": [')
        _list(file, (json.dumps(one) for line in _lines(parts) for one in json.loads(line)[1]))
        file.write("]}\n")


def _list(file: TextIO, items: Iterator[str]) -> None:
    for number, item in enumerate(items):
        file.write(f"{',' if number else ''}\n{item}")


def _lines(parts: Sequence[Path]) -> Iterator[str]:
    for part in parts:
        with part.open(encoding="utf-8") as file:
            yield from file


class CvatLines(Lines):
    """One line per frame: its `<image>` with a polygon for every region."""

    def line(self, index: int, name: str, labels: np.ndarray) -> str:
        height, width = labels.shape
        polygons = [
            f'<polygon label={_quoted(self._labels.names[one.label])} source="auto" occluded="0" '
            f'points="{";".join(f"{x}.00,{y}.00" for x, y in one.points.tolist())}" z_order="{one.depth}"></polygon>'
            for one in outlines(labels) if one.label < len(self._labels)
        ]  # fmt: skip
        head = f'<image id="{index}" name={_quoted(name)} width="{width}" height="{height}">'
        return "".join([head, *polygons, "</image>"])


def join_cvat(path: Path, parts: Sequence[Path], labels: LabelSet) -> None:
    """Makes the CVAT file from the lines of all frames; raises OutputError."""
    classes = "\n".join(
        f"<label><name>{_escaped(name)}</name><color>#{red:02x}{green:02x}{blue:02x}</color><type>any</type>"
        "<attributes></attributes></label>"
        for name, (red, green, blue) in zip(labels.names, labels.palette_rgb, strict=True)
    )
    with atomic_path(path) as made, made.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(f"<meta><task><labels>\n{classes}\n</labels></task></meta>\n")
        file.writelines(_lines(parts))
        file.write("</annotations>\n")


def _quoted(text: str) -> str:
    # a line feed in a name would end the frame's line
    return quoteattr(_NO_XML.sub("?", text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _escaped(text: str) -> str:
    return _quoted(text)[1:-1]


def write_labelme(path: Path, picture: str, labels: np.ndarray, classes: LabelSet) -> None:
    """Writes a picture's LabelMe file with a polygon for every region; raises OutputError.

    Args:
        path: the file.
        picture: path of the picture, relative to the folder where the file will be.
        labels: uint8 (H, W).
        classes: the classes.
    """
    shapes = [
        {
            "label": classes.names[one.label], "points": one.points.astype(float).tolist(), "group_id": None,
            "description": "", "shape_type": "polygon", "flags": {}, "mask": None,
        }
        for one in outlines(labels) if one.label < len(classes)
    ]  # fmt: skip
    height, width = labels.shape
    data: dict[str, Any] = {"version": _LABELME, "flags": {}, "shapes": shapes, "imagePath": picture, "imageData": None}
    with atomic_path(path) as made:  # without line feeds, since formatting them takes longer than everything else
        made.write_text(json.dumps({**data, "imageHeight": height, "imageWidth": width}) + "\n", encoding="utf-8")
