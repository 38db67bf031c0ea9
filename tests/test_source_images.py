"""Single images and folders of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.core.errors import InputError
from rtseg.sources.open import open_source


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.full((5, 7), 100, np.uint8), (100, 100, 100)),
        (np.full((5, 7, 3), (1, 2, 3), np.uint8), (1, 2, 3)),
        (np.full((5, 7, 4), (10, 20, 30, 128), np.uint8), (10, 20, 30)),
        (np.full((5, 7), 65535, np.uint16), (255, 255, 255)),
        (np.full((5, 7, 3), (257, 514, 65535), np.uint16), (1, 2, 255)),
        (np.full((1, 1, 3), (4, 5, 6), np.uint8), (4, 5, 6)),
    ],
)
def test_image_of_any_depth_becomes_bgr8(tmp_path: Path, stored: np.ndarray, expected: tuple[int, ...]) -> None:
    path = tmp_path / "ä b.png"  # a name that cv2.imread cannot open on every system
    path.write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    with open_source(path) as source:
        assert (source.kind, source.frame_count, source.size_hw) == ("image", 1, stored.shape[:2])
        (frame,) = source
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (*stored.shape[:2], 3)
    assert tuple(frame.image[0, 0]) == expected


def test_folder_is_sorted_keeps_each_size_and_skips_what_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, size in ((2, (6, 8)), (0, (4, 5)), (1, None), (3, (4, 5))):
        path = tmp_path / f"{number}.png"
        if size is None:
            path.write_text("no picture")
        else:
            path.write_bytes(cv2.imencode(".png", np.full((*size, 3), number, np.uint8))[1].tobytes())
    (tmp_path / "notes.txt").write_text("not an image")
    with open_source(tmp_path, fps=4) as source:
        assert (source.kind, source.fps, source.frame_count, source.size_hw) == ("images", 4, 4, (4, 5))
        frames = list(source)
    assert [(frame.index, frame.size_hw, int(frame.image[0, 0, 0])) for frame in frames] == [
        (0, (4, 5), 0),
        (2, (6, 8), 2),
        (3, (4, 5), 3),
    ]
    assert [frame.timestamp_s for frame in frames] == [0.0, 0.5, 0.75]
    assert source.corrupt == 1
    assert caplog.messages == [
        f"{tmp_path / '1.png'} cannot be read as a picture: it is damaged, cut short or of another type"
    ]


def test_folder_of_nothing_but_damaged_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match="no frame that can be decoded"):
        open_source(tmp_path)
