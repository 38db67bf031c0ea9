"""Label maps that are exact, pictures that are whole or absent."""

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest
from sink_frames import a_frame, a_picture, record

from rtseg.core.errors import OutputError
from rtseg.sinks.base import LabelSink, NullSink, write_picture


@pytest.mark.parametrize("size_hw", [(1, 1), (33, 47)])
def test_label_maps_are_exact(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 256, size_hw, dtype=np.uint8)
    with LabelSink(tmp_path / "deep" / "labels") as sink:
        sink.write(a_frame(0), labels, a_picture())
        sink.write(a_frame(7), labels[::-1], a_picture())
    assert sorted(path.name for path in sink.folder.iterdir()) == ["000000.png", "000007.png"]
    assert np.array_equal(cv2.imread(str(sink.folder / "000000.png"), cv2.IMREAD_UNCHANGED), labels)
    assert np.array_equal(cv2.imread(str(sink.folder / "000007.png"), cv2.IMREAD_UNCHANGED), labels[::-1])


def test_a_picture_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_picture(tmp_path / "a.png", a_picture())
    assert list(tmp_path.iterdir()) == []


def test_unknown_picture_type_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"allowed: \.png"):
        write_picture(tmp_path / "a.xyz", a_picture())


def test_a_folder_sink_refuses_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write in folder"):
        LabelSink(tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""


def test_null_sink_counts() -> None:
    with NullSink() as sink:
        record(sink, [0.0, 0.1, 0.2])
    assert sink.frames == 3
