"""Label maps are exact, and pictures are whole or absent."""

import errno
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from sink_frames import a_picture, record

from rtseg.core.errors import OutputError
from rtseg.core.frame import Frame
from rtseg.sinks.base import NullSink, make_folder, write_picture
from rtseg.sinks.labels import LabelVideoSink


@pytest.mark.parametrize("size_hw", [(1, 1), (33, 47)])
def test_label_maps_are_exact(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 256, size_hw, dtype=np.uint8)
    write_picture(tmp_path / "labels.png", labels)
    assert np.array_equal(cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED), labels)


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


def test_a_file_in_the_way_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write in folder"):
        make_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""


def test_null_sink_counts() -> None:
    with NullSink() as sink:
        record(sink, [0.0, 0.1, 0.2])
    assert sink.frames == 3


def test_a_label_video_may_be_a_single_column(tmp_path: Path) -> None:
    labels = np.arange(200, dtype=np.uint8)[:, None]
    with LabelVideoSink(tmp_path / "a.mkv", (200, 1), 25, Fraction(1, 25)) as sink:
        sink.write(Frame(np.zeros((200, 1, 3), np.uint8), 0, 0.0, 0.0), labels, labels)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert np.array_equal(next(container.decode(video=0)).to_ndarray(), labels)
