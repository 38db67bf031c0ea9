"""Pictures of every depth and kind: read right or refused, in the order of their numbers, and said what is not read."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from odd_media import label, label_numbers, numbered, watch
from picture_files import GREY, tiff, write_all

from rtseg.core.errors import InputError
from rtseg.sources.images import read_image
from rtseg.sources.kinds import kind_of
from rtseg.sources.open import open_source


def test_pictures_are_decoded_right_or_refused(tmp_path: Path) -> None:
    for name, shown in write_all(tmp_path).items():
        if shown is None:
            with pytest.raises(InputError, match=name):
                read_image(tmp_path / name)
            continue
        expected = np.repeat(shown[:, :, None], 3, 2) if shown.ndim == 2 else shown[:, :, ::-1]
        read = read_image(tmp_path / name)
        assert np.abs(read.astype(int) - expected).max() <= 1, name


@pytest.mark.parametrize("suffix", [".jpe", ".jfif", ".dib", ".pbm", ".pnm", ".jp2", ".avif", ".apng", ".sr", ".ras"])
def test_what_opencv_reads_is_read_whatever_its_suffix(bands: Path, suffix: str) -> None:
    written = {".jpe": ".jpg", ".jfif": ".jpg", ".dib": ".bmp", ".apng": ".png", ".pbm": ".ppm", ".pnm": ".ppm"}
    data = cv2.imencode(written.get(suffix, suffix), numbered(5))[1]
    (bands / f"a{suffix}").write_bytes(data.tobytes())
    assert label(bands / f"a{suffix}", save="overlay,labels") == 0
    assert label_numbers(bands / "out/a_labels") == {0: 5}


@pytest.mark.parametrize(("suffix", "codec"), [(".tga", "targa"), (".pcx", "pcx"), (".sgi", "sgi"), (".qoi", "qoi")])
def test_what_ffmpeg_alone_reads_is_read_too(tmp_path: Path, suffix: str, codec: str) -> None:
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width, encoder.time_base = 64, 96, 1  # type: ignore[attr-defined,assignment]
    encoder.pix_fmt = {"targa": "bgr24"}.get(codec, "rgb24")  # type: ignore[attr-defined]
    frame = av.VideoFrame.from_ndarray(numbered(9), format="bgr24").reformat(format=encoder.pix_fmt)  # type: ignore[attr-defined]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None))))  # type: ignore[attr-defined]
    with open_source(path) as source:
        picture = source.read()
    assert picture is not None
    assert np.array_equal(picture.image, numbered(9))


def test_files_without_a_known_suffix_are_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.upload").write_bytes(cv2.imencode(".png", numbered(1))[1].tobytes())
    (tmp_path / "notes.log").write_text("hello\n" * 100)
    assert [kind_of(tmp_path / name) for name in ("a.upload", "notes.log", "none.xyz")] == ["picture", None, None]


def test_numbers_in_names_are_in_order_and_what_is_skipped_is_named(
    bands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bands / "ns"
    folder.mkdir()
    for number in (1, 2, 10, 11, 9):
        cv2.imwrite(str(folder / f"frame_{number}.png"), numbered(number))
    for name in ("a.txt", "b.json"):
        (folder / name).write_text("{}")
    assert label(folder, save="overlay,labels") == 0
    assert "2 files are skipped, by the suffix no picture or video: a.txt, b.json" in capsys.readouterr().out
    assert list(label_numbers(bands / "out/ns_labels").values()) == [1, 2, 9, 10, 11]
    assert watch(folder) == 0
    assert "note    2 files are skipped" in capsys.readouterr().out


def test_folders_that_are_links_are_labelled_and_loops_end(bands: Path) -> None:
    (bands / "far").mkdir()
    cv2.imwrite(str(bands / "far/a.png"), numbered(3))
    (bands / "in").mkdir()
    (bands / "in/near").symlink_to(bands / "far")
    (bands / "far/loop").symlink_to(bands / "in")
    assert label(bands / "in", save="labels") == 0
    assert label_numbers(bands / "out/near_labels") == {0: 3}


def test_only_the_first_of_several_pictures_is_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pages.tif").write_bytes(tiff(8, 1, 1, GREY.tobytes(), pages=2))
    (tmp_path / "one.tif").write_bytes(tiff(8, 1, 1, GREY.tobytes()))
    animation = cv2.Animation()
    animation.frames = [numbered(number) for number in range(3)]
    animation.durations = [100] * 3
    for name in ("a.webp", "a.png"):
        assert cv2.imwriteanimation(str(tmp_path / name), animation)
    for name in ("pages.tif", "one.tif", "a.webp", "a.png"):
        read_image(tmp_path / name)
    told = [message.split(" holds ")[0] for message in caplog.messages if "only the first is read" in message]
    assert [Path(path).name for path in told] == ["pages.tif", "a.webp", "a.png"]


@pytest.mark.parametrize("size_hw", [(1, 4000), (4000, 1), (64, 96)])
def test_the_strip_of_extreme_shapes(bands: Path, size_hw: tuple[int, int]) -> None:
    cv2.imwrite("a.png", np.full((*size_hw, 3), 90, np.uint8))
    assert label("a.png", save="strip") == 0
    height, width = cv2.imread("out/a_strip.png").shape[:2]
    assert height == 180
    assert 1 <= width <= 720
