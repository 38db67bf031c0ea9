"""Pictures of every depth and kind: read correctly or rejected, in numeric order, with a note of what is not read."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from heif_files import avif, box, colours, heic, jpeg2000, with_palette
from odd_media import Video, label, label_numbers, number_of, numbered, watch
from picture_files import GREY, tiff, write_all
from PIL import Image

from rtseg.core.errors import InputError
from rtseg.datasets.masks import IdMasks
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


SMALL = numbered(5)
TURNS = [
    ((), SMALL),
    ((box(b"irot", b"\1"),), np.rot90(SMALL)),
    ((box(b"imir", b"\0"),), SMALL[::-1]),
    ((box(b"irot", b"\2"), box(b"imir", b"\1")), SMALL[::-1]),
    ((box(b"clap", struct.pack(">8i", 90, 1, 60, 1, -3, 1, 2, 1)),), SMALL[4:, :90]),
]


@pytest.mark.parametrize(("transforms", "shown"), TURNS, ids=["plain", "rot", "mir", "both", "crop"])
def test_heic_and_avif_are_read_as_they_are_to_be_shown(
    tmp_path: Path, transforms: tuple[bytes, ...], shown: np.ndarray
) -> None:
    """A HEIC of one picture, and of six tiles that extend beyond it; the name does not matter."""
    files = {"one.heic": heic(SMALL, (64, 96), transforms), "tiles.jpg": heic(SMALL, (32, 40), transforms)}
    files["a.avif"] = avif(SMALL, transforms)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        read = read_image(tmp_path / name)
        assert read.shape == shown.shape, name
        assert np.abs(read.astype(int) - shown).mean() < 8, name


def test_a_damaged_heic_is_refused(tmp_path: Path) -> None:
    whole = heic(SMALL, (32, 40))
    (tmp_path / "a.heic").write_bytes(whole[: whole.index(b"mdat") + 40])
    (tmp_path / "b.heic").write_bytes(whole[:60])
    for name in ("a.heic", "b.heic"):
        with pytest.raises(InputError, match="cannot be read as a picture"):
            read_image(tmp_path / name)


def test_an_avif_of_ten_bits_is_as_bright_as_one_of_eight(tmp_path: Path) -> None:
    deep = (SMALL.astype(int) * 1023 // 255).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.avif"), deep, [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 95])
    assert np.abs(read_image(tmp_path / "a.avif").astype(int) - SMALL).mean() < 8


@pytest.mark.parametrize(
    ("codes", "level", "expected", "name"),
    [
        ((9, 16, 9), 106, 127, "PQ"),  # 38 cd/m²: BT.1886 of 203 * (127 / 255) ** 2.4
        ((1, 16, 1), 106, 127, "PQ"),
        ((9, 18, 9), 191, 255, "HLG"),  # its white
        ((9, 14, 9), 106, 106, None),  # BT.2020 without HDR
    ],
)
def test_hdr_stills_are_mapped_to_sdr_and_said_so(
    tmp_path: Path, codes: tuple[int, int, int], level: int, expected: int, name: str | None
) -> None:
    """From the box, or from the coded picture alone, of one picture or of tiles; from the chunk of a PNG."""
    flat = np.full((64, 96, 3), level, np.uint8)
    coded = cv2.imencode(".avif", flat, [cv2.IMWRITE_AVIF_QUALITY, 100])[1].tobytes()
    place = coded.index(b"nclx") + 4
    files = {
        "box.heic": heic(flat, (64, 96), (colours(*codes),), "yuv420p10le"),
        "tiles.hif": heic(flat, (32, 40), (colours(*codes),), "yuv422p10le"),
        "coded.heic": heic(flat, (64, 96), (), "yuv420p10le", codes),
        "box.avif": coded[:place] + struct.pack(">HH", *codes[:2]) + coded[place + 4 :],
        "chunk.png": with_chunk(cv2.imencode(".png", flat)[1].tobytes(), b"cICP", bytes([*codes[:2], 0, 1])),
    }
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
        with open_source(tmp_path / file) as source:
            picture = source.read()
            assert picture is not None
            assert picture.image[::16, ::16].reshape(-1, 3).mean(0) == pytest.approx([expected] * 3, abs=4), file
            said = [f"HDR ({name}): it is mapped to SDR, since the network was trained on SDR"] if name else []
            assert source.notes == said, file
    with open_source(tmp_path) as source:
        assert bool(source.notes) == bool(name)


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with an additional chunk after its header."""
    body = kind + content
    return png[:33] + struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


def test_what_a_heic_says_of_its_colours_comes_before_what_is_coded(tmp_path: Path) -> None:
    """The encoder writes limited-range BT.601; read as BT.709, or as full range, the colours would differ."""
    red, y = np.full((64, 96, 3), (30, 60, 200), np.uint8), 16 + 219 * (0.299 * 200 + 0.587 * 60 + 0.114 * 30) / 255
    grey = np.full((64, 96, 3), 128, np.uint8)
    (tmp_path / "a.heic").write_bytes(heic(red, (64, 96), (colours(1, 13, 6),)))
    assert read_image(tmp_path / "a.heic")[32, 48].tolist() == pytest.approx([30, 60, 200], abs=4)
    (tmp_path / "b.heic").write_bytes(heic(red, (64, 96), (colours(1, 13, 1),)))
    chroma = 0.5 * (200 * 219 / 255 + 16 - y) / (1 - 0.299)  # Cr, in steps of the limited range for luma
    assert read_image(tmp_path / "b.heic")[32, 48, 2] == pytest.approx(((y - 16) + 1.5748 * chroma) * 255 / 219, abs=4)
    (tmp_path / "c.heic").write_bytes(heic(grey, (64, 96), (colours(1, 13, 6, whole=True),)))
    assert read_image(tmp_path / "c.heic")[32, 48].tolist() == pytest.approx([16 + 219 * 128 / 255] * 3, abs=3)


@pytest.mark.parametrize("depth", [10, 12])
def test_stills_of_more_than_eight_bits_have_the_tones_of_eight(tmp_path: Path, depth: int) -> None:
    ramp = np.repeat(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    (tmp_path / "a.heic").write_bytes(heic(ramp, (64, 96), (), f"yuv420p{depth}le"))
    deep = np.round(ramp * ((2**depth - 1) / 255)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.avif"), deep, [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 98])
    for name in ("a.heic", "a.avif"):
        assert np.abs(read_image(tmp_path / name).astype(int) - ramp).max() <= 6, name


def test_jpeg_2000_of_every_depth_and_colour_is_read_right_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    rgb = np.ascontiguousarray(SMALL[..., ::-1])
    for pix_fmt in ("rgb24", "gbrp12le", "rgb48le"):
        jpeg2000(path, pix_fmt, rgb)
        assert np.abs(read_image(path).astype(int) - SMALL).max() <= 1, pix_fmt
    grey = np.repeat(np.arange(0, 240, 10, np.uint8)[None], 16, 0)
    for pix_fmt in ("gray", "gray10le", "gray12le"):
        jpeg2000(path, pix_fmt, grey, "gray")
        assert np.abs(read_image(path).astype(int) - grey[..., None]).max() <= 1, pix_fmt
    colours = np.random.default_rng(0).integers(0, 256, (240, 3), dtype=np.uint8)
    path.write_bytes(with_palette(jpeg2000(path, "gray", grey, "gray"), colours))
    assert np.array_equal(read_image(path), colours[grey][..., ::-1])
    luma = cv2.cvtColor(SMALL, cv2.COLOR_BGR2YCrCb)  # of full range, as sYCC is
    jpeg2000(path, "yuv444p", np.ascontiguousarray(luma[..., [0, 2, 1]].transpose(2, 0, 1)), "yuv444p")
    assert np.abs(read_image(path).astype(int) - SMALL).max() <= 4
    cmyk = jpeg2000(path, "rgb24", rgb).replace(
        b"colr\1\0\0" + struct.pack(">I", 16), b"colr\1\0\0" + struct.pack(">I", 12)
    )
    path.write_bytes(cmyk)
    with pytest.raises(InputError, match="neither RGB, grey nor YCbCr"):
        read_image(path)


def test_a_motion_photo_is_its_picture_and_says_so(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Google's and Samsung's, JPEG and HEIC, whatever the suffix is."""
    video = Video("v.mp4").make(bands).read_bytes()
    jpeg = cv2.imencode(".jpg", numbered(9))[1].tobytes()
    names = {
        "google.jpg": jpeg + video,
        "samsung.mp4": jpeg + b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + video,
        "upload": jpeg + video,
        "apart.heic": heic(numbered(9), (64, 96)) + box(b"mpvd", video),
    }
    for name, data in names.items():
        (bands / name).write_bytes(data)
        assert label(bands / name, save="overlay,labels") == 0
        assert f"{name}: it is a motion photo: its picture is read" in capsys.readouterr().out
        assert label_numbers(bands / f"out/{Path(name).stem}_labels") == {0: 9}
    assert watch(bands / "google.jpg") == 0
    assert "note    it is a motion photo" in capsys.readouterr().out


def test_the_suffix_of_the_other_kind(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jpeg = cv2.imencode(".jpg", numbered(9))[1].tobytes()
    (bands / "one.mov").write_bytes(jpeg)
    (bands / "film.mov").write_bytes(b"".join(cv2.imencode(".jpg", numbered(n))[1].tobytes() for n in range(5)))
    (bands / "a.jpg").write_bytes(Video("v.mp4").make(bands).read_bytes())
    assert [kind_of(bands / name) for name in ("one.mov", "film.mov", "v.mp4")] == ["picture", "video", "video"]
    assert label(bands / "a.jpg") == 3
    assert "a.jpg is a video, not a picture: give it a video's suffix" in capsys.readouterr().err


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
    assert "2 files are skipped (no picture or video suffix): a.txt, b.json" in capsys.readouterr().out
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
    page = Image.fromarray(GREY)
    page.save(tmp_path / "big.tif", big_tiff=True, save_all=True, append_images=[page])
    page.save(tmp_path / "big-one.tif", big_tiff=True)
    animation = cv2.Animation()
    animation.frames = [numbered(number) for number in range(3)]
    animation.durations = [100] * 3
    for name in ("a.webp", "a.png"):
        assert cv2.imwriteanimation(str(tmp_path / name), animation)
    for name, data in heif_stills().items():
        (tmp_path / name).write_bytes(data)
    for path in sorted(tmp_path.iterdir()):
        image = read_image(path)
        assert path.suffix not in (".heic", ".avif") or number_of(image) == 5, path.name
    told = [message.split(" holds ")[0] for message in caplog.messages if "only the first is read" in message]
    several = ("a.avif", "a.png", "a.webp", "big.tif", "pages.tif", "sequence.heic", "two.heic")
    assert [Path(path).name for path in told] == sorted(several)


def heif_stills() -> dict[str, bytes]:
    """With one picture, tiles, two pictures (the second may be hidden or a thumbnail), and with a track behind them."""
    animation = cv2.Animation()
    animation.frames, animation.durations = [SMALL, numbered(1)], [100] * 2
    coded = cv2.imencodeanimation(".avif", animation)[1].tobytes()
    one, two = heic(SMALL, (64, 96)), heic(SMALL, (64, 96), beside=(numbered(1),))
    thumbnail = box(b"thmb", struct.pack(">HHH", 2, 1, 1))
    mark = b"infe\2\0\0%c\0\2"
    return {
        "a.avif": coded,
        "one.heic": one,
        "tiles.heic": heic(SMALL, (32, 40)),
        "two.heic": two,
        "hidden.heic": two.replace(mark % 0, mark % 1),
        "thumbnail.heic": heic(SMALL, (64, 96), beside=(numbered(1),), refs=thumbnail),
        "sequence.heic": one.replace(b"ftypheic", b"ftyphevc") + box(b"moov"),
    }


def test_alpha_of_a_tiff_is_dropped_and_not_applied(tmp_path: Path) -> None:
    """Like that of every other picture: transparent pixels were read as black."""
    alpha = np.full(SMALL.shape[:2], 255, np.uint8)
    alpha[:32], alpha[32:, :48] = 0, 128
    for name, options in {"a.tif": {}, "packed.tif": {"compression": "tiff_lzw"}, "a.png": {}}.items():
        Image.fromarray(np.dstack([SMALL[..., ::-1], alpha])).save(tmp_path / name, **options)
        assert np.array_equal(read_image(tmp_path / name), SMALL), name


def test_what_is_wrong_with_a_picture_is_said_in_one_line(tmp_path: Path) -> None:
    """OpenCV has its own term for it."""
    page = Image.fromarray(SMALL)
    page.save(tmp_path / "a.tif", compression="zstd")
    page.save(tmp_path / "a.qoi")
    (tmp_path / "a.qoi").write_bytes((tmp_path / "a.qoi").read_bytes()[:100])
    with pytest.raises(InputError, match=r"a\.tif is a TIFF that is compressed with Zstandard: convert it to PNG"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.qoi cannot be read as a picture: it is damaged, cut short"):
        read_image(tmp_path / "a.qoi")
    (tmp_path / "a.bmp").write_bytes(cv2.imencode(".bmp", SMALL)[1].tobytes()[:5000])
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path / "a.bmp")], capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {tmp_path}/a.bmp cannot be read as a picture")
    assert done.stderr.count("\n") == 1


READ = """
from pathlib import Path
from cyclopts import App
from rtseg.apps._console import run

app = App()

@app.default
def command(path: Path) -> None:
    from rtseg.sources.images import read_image

    read_image(path)

run(app)
"""


def test_a_picture_that_is_too_large_is_refused_in_words(tmp_path: Path) -> None:
    """Its header says so; OpenCV answers with a line of its source code."""
    data = bytearray(cv2.imencode(".bmp", SMALL)[1].tobytes())
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    (tmp_path / "a.bmp").write_bytes(data)
    for read in (read_image, IdMasks({}).read):
        with pytest.raises(InputError, match=r"a\.bmp cannot be decoded: it has more than 2\*\*30 pixels: make it sm"):
            read(tmp_path / "a.bmp")


@pytest.mark.parametrize("size_hw", [(1, 4000), (4000, 1), (64, 96)])
def test_the_strip_of_extreme_shapes(bands: Path, size_hw: tuple[int, int]) -> None:
    cv2.imwrite("a.png", np.full((*size_hw, 3), 90, np.uint8))
    assert label("a.png", save="strip") == 0
    height, width = cv2.imread("out/a_strip.png").shape[:2]
    assert height == 180
    assert 1 <= width <= 720
