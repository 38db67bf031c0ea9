"""What lies in the place of a file that is read as a whole: a pipe, a folder, nonsense."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, make_network

from rtseg.apps._bundle import read_report
from rtseg.apps._console import explain
from rtseg.core.card import Card
from rtseg.core.errors import RtsegError, UsageError
from rtseg.core.files import read_json
from rtseg.core.zoo import resolve
from rtseg.datasets.base import read_lines
from rtseg.datasets.classes import read_classes_file
from rtseg.datasets.imports import open_export
from rtseg.datasets.masks import orientation
from rtseg.importing.classes import find_classes
from rtseg.int8.calibrate import measure_ranges
from rtseg.int8.fold import load_float_graph
from rtseg.int8.quantise import quantised_tensors
from rtseg.live.segmenter import Segmenter
from rtseg.live.spec import default_size
from rtseg.pictures.overlay import overlay

JSON_READERS: dict[str, Callable[[Path], Any]] = {
    "card": Card.load,
    "classes": read_classes_file,
    "network classes": lambda path: find_classes(str(path)),
    "report": read_report,
}
READERS = {
    **JSON_READERS,
    "list of pictures": read_lines,
    **{name: lambda path, name=name: list(open_export(name, path.parent).pictures())
       for name in ("coco", "cvat", "label-studio", "labelme", "yolo")},
}  # fmt: skip
SUFFIXES = {"cvat": ".xml", "yolo": ".yaml"}


@pytest.mark.parametrize("what", READERS)
def test_a_pipe_or_folder_is_refused_at_once(tmp_path: Path, what: str) -> None:
    """A pipe that nobody writes into was waited for without an end."""
    path = tmp_path / f"file{SUFFIXES.get(what, '.json')}"
    os.mkfifo(path)
    with pytest.raises(RtsegError, match="it is a pipe, socket or device, not a file"):
        READERS[what](path)
    if what != "labelme":  # which looks for files below it
        path.unlink()
        path.mkdir()
        with pytest.raises(RtsegError, match="it is a folder, not a file"):
            READERS[what](path)


def test_a_picture_that_became_a_pipe_is_turned_by_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert orientation(tmp_path / "a.jpg") == 1


@pytest.mark.parametrize("what", JSON_READERS)
def test_lists_that_are_nested_without_an_end_are_told(tmp_path: Path, what: str) -> None:
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(RtsegError, match=r"a\.json .*nested too deeply"):
        JSON_READERS[what](tmp_path / "a.json")


STRANGE = (None, "x", "", -1, 1.5, [], {}, ["a"], {"a": 1}, True, [1, 2, 3], float("nan"), 10**400, [[]])


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a card: the keys that lead there; of a list the first alone."""
    yield above
    for key in tree if isinstance(tree, dict) else range(min(1, len(tree))) if isinstance(tree, list) else ():
        yield from places(tree[key], (*above, key))


def changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[place[0]] = changed(tree[place[0]], place[1:], value)
    return copy


def test_a_card_with_anything_in_any_place_is_used_or_refused(tmp_path: Path) -> None:
    """Half of them ended in a traceback, some only after an engine had been loaded."""
    card = make_network(tmp_path).with_suffix(".json")
    whole = json.loads(card.read_text())
    picture, refused = np.zeros((32, 32, 3), np.uint8), set()
    for place in places(whole):
        for value in STRANGE:
            card.write_text(json.dumps(changed(whole, place, value)))
            try:
                with Segmenter(FakeEngine(resolve(card.with_suffix(".onnx")))) as segmenter:
                    default_size(segmenter.card, (48, 64))
                    segmenter.card.output_shape((64, 96))
                    overlay(picture, segmenter(picture), segmenter.labels, legend=True)
                    resolve(card.with_suffix(".onnx")).file("fp32")
            except RtsegError:
                refused.add(place)
    assert {place[0] for place in refused if place} == set(whole)  # each has types of its own


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_is_full_is_no_defect_whoever_writes(number: int) -> None:
    """Libraries write temporary files of their own."""
    message, code = explain(OSError(number, os.strerror(number), "a.onnx"))
    assert code == 4
    assert message.startswith("a file cannot be written: [Errno ")
    assert message.endswith(f": 'a.onnx'; free space, also in the folder of temporary files, {gettempdir()}")


def test_a_graph_without_a_convolution_for_int8_is_told(tmp_path: Path) -> None:
    """onnxruntime's words about its outputs were a 'defect'."""
    graph = load_float_graph(make_network(tmp_path))
    with pytest.raises(UsageError, match="no convolution that INT8 makes faster"):
        measure_ranges(graph, quantised_tensors(graph), [])


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    """Editors of Windows write one."""
    card = make_network(tmp_path).with_suffix(".json")
    before = Card.load(card)
    card.write_bytes(b"\xef\xbb\xbf" + card.read_bytes())
    assert Card.load(card) == before
    assert read_json(card)["name"] == "tiny"
