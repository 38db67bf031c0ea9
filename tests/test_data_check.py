"""`rtseg data`: finds, reports and counts every kind of mistake."""

import json
import re
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from folder_tree import CLASSES, make_folder, write_classes
from heif_files import avif, box, heic
from picture_files import turned
from PIL import Image
from test_commands import call

import rtseg.apps
from rtseg.apps.data import CheckOptions
from rtseg.apps.evaluate import EvalOptions
from rtseg.datasets import DATASETS, open_data
from rtseg.datasets.check import ALIKE_BITS, check, difference_hash, near_duplicates
from rtseg.metrics.boundary import TOLERANCE

NAMES = [f"train/{i}" for i in range(6)] + [f"val/{i}" for i in range(3)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "mine", NAMES)


def found(root: Path, *more: str) -> tuple[int, dict]:
    out = root.parent / "found.json"
    return call("rtseg data check", "--root", str(root), "--json", str(out), *more), json.loads(out.read_text())


def test_a_clean_set_ends_with_0_and_its_figures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = np.zeros((48, 64), np.uint8)
    ids[:12] = 1
    ids[12:24] = 255
    ids[47] = 2
    for mask in (root / "masks").rglob("*.png"):
        cv2.imwrite(str(mask), ids)
    code, report = found(root)
    assert (code, report["clean"], report["problems"]) == (0, True, {})
    assert (report["data"], report["root"]) == ("folder", str(root))
    val = report["splits"]["val"]
    assert (val["pictures"], val["sizes"], val["unlabelled"]) == (3, {"48x64": 3}, 0.25)
    assert val["classes"]["grass"] == {"pixels": 3 * 23 * 64, "share": 0.479167, "pictures": 3}
    assert val["classes"]["shed"] == {"pixels": 3 * 64, "share": 0.020833, "pictures": 3}
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "no problems found" in printed.out
    assert "val: 3 pictures, 3 of 48x64" in printed.out


@pytest.mark.parametrize("value", [255, 0])
def test_a_class_without_a_pixel_is_named(root: Path, value: int) -> None:
    """Binary masks of 0 and 255, of 8 bits and of one: 255 means 'not labelled'."""
    ids = np.zeros((48, 64), np.uint8)
    ids[10:20] = value
    for mask in (root / "masks" / "train").iterdir():
        cv2.imwrite(str(mask), ids, [cv2.IMWRITE_PNG_BILEVEL, 1] if value else [])
    code, report = found(root)
    told = [line for line in report["problems"]["class"]["first"] if line.startswith("train")]
    assert code == 3
    assert [line.split(";")[0] for line in told] == [f"train has no pixel of {name!r}" for name in ("path", "shed")]
    assert all(("20.8% of all pixels are unlabelled" in line) == bool(value) for line in told)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pbm"])
def test_masks_of_one_bit_are_named(root: Path, suffix: str) -> None:
    """Their ones are shown as 255; a single such file among 8-bit ones leaves no class without a pixel."""
    ones = np.zeros((48, 64), bool)
    ones[10:20] = True
    for name, pixels in (("0", ones), ("1", ~np.ones_like(ones))):
        (root / "masks" / "train" / f"{name}.png").unlink()
        Image.fromarray(pixels).save(root / "masks" / "train" / f"{name}{suffix}")
    code, report = found(root)
    told = [f"{root / 'masks' / 'train' / '0'}{suffix} has one bit a pixel: its ones are read as 255, not labelled; "
            "write 8-bit ids if they are a class"]  # fmt: skip
    assert (code, report["problems"], report["doubts"]["first"]) == (0, {}, told)
    write_classes(root, classes=[*CLASSES, {"name": "crack", "rgb": [9, 9, 9], "id": 255}], ignore=None)
    assert found(root)[1]["doubts"]["count"] == 0


@pytest.mark.parametrize(("bits", "values"), [(2, "0, 85, 170, … 255"), (4, "0, 17, 34, … 255")])
def test_masks_of_few_bits_are_named(root: Path, bits: int, values: str) -> None:
    """Ids 0 to 2 were read as other ids, and 3 of two bits as 'not labelled'."""
    mask = root / "masks" / "train" / "0.png"
    hint = f"; it has {bits} bits a pixel, which are read as {values}: write 8-bit ids"
    mask.write_bytes(grey_png(np.full((48, 64), 2**bits - 1, np.uint8), bits))
    told = f"{mask} may not hold the ids that were meant{hint}"
    assert found(root)[1]["doubts"] == {"count": 1, "first": [told]}
    mask.write_bytes(grey_png(np.ones((48, 64), np.uint8), bits))
    told = f"{mask} holds id {255 // (2**bits - 1)}; allowed: 0..2, 255{hint}"
    assert found(root)[1]["problems"]["unknown label"]["first"] == [told]


def grey_png(ids: np.ndarray, bits: int) -> bytes:
    """uint8 (H, W) -> a grey PNG of 2 or 4 bits per pixel, which Pillow does not write."""
    height, width = ids.shape
    each = ids.reshape(height, -1, 8 // bits)
    packed = sum(each[:, :, place].astype(int) << (8 - bits * (place + 1)) for place in range(8 // bits))
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(packed, np.uint8))
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_names_with_brackets_are_printed_as_they_are(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They were treated as markup: one crashed the command, the other was printed without its brackets."""
    names = ["[/]", "[red]path", "a" * 200]
    write_classes(root, classes=[{**one, "name": name} for one, name in zip(CLASSES, names, strict=True)])
    assert found(root)[0] == 0
    printed = capsys.readouterr()
    assert "[/] " in printed.out
    assert "[red]path " in printed.out
    assert printed.out.count("a") >= 200  # wrapped, not cut
    assert printed.err == ""


def test_commands_print_names_through_one_console() -> None:
    """Consoles may be created only where they draw bars or states, because elsewhere brackets in names are markup."""
    folder = Path(rtseg.apps.__file__).parent
    made = {path.name for path in folder.glob("*.py") if re.search(r"\bConsole\((?!stderr=True\))", path.read_text())}
    assert made == {"_console.py", "doctor.py"}


def test_pictures_that_are_passed_over_for_their_suffix_are_named(
    root: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of a split was missing without a warning."""
    images, masks = root / "images" / "train", root / "masks" / "train"
    for name, suffix in (("0", ".gif"), ("1", ".xyz")):
        (images / f"{name}.jpg").rename(images / f"{name}{suffix}")
        (masks / f"{name}.png").rename(masks / f"{name}{suffix}")
    (images / "2.jpg").rename(images / "upload")  # only its content says that it is a picture
    (masks / "2.png").unlink()
    (images / "readme.txt").write_text("from the park\n")
    (images / "3.json").write_text("{}")  # LabelMe's, next to 3.jpg
    (images / "._3.jpg").write_bytes(b"\0" * 99)
    code, report = found(root)
    passed = ["0.gif", "1.xyz", "upload"]
    assert (code, report["splits"]["train"]["pictures"]) == (3, 3)
    assert report["problems"] == {
        "split": {"count": 3, "first": [f"{images / name} is not read: convert it to PNG or JPEG" for name in passed]}
    }
    assert "3 files are skipped (no picture or video suffix): 0.gif, 1.xyz, upload" in caplog.text
    assert "no problems found" not in capsys.readouterr().out


def test_what_lies_in_the_place_of_a_mask_is_named(root: Path) -> None:
    masks = root / "masks" / "train"
    (masks / "0.png").rename(masks / "0.npy")
    (masks / "1.png").unlink()
    (masks / "2.png").unlink()
    (masks / "2.png").symlink_to("nowhere.png")
    (root / "images" / "train" / "9.jpg").symlink_to("nowhere.jpg")
    assert found(root)[1]["problems"]["missing"]["first"] == [
        f"{masks / '0.png'} is missing: every picture needs its label picture; 0.npy, which lies there, is not read: "
        "write it as PNG",
        f"{masks / '1.png'} is missing: every picture needs its label picture",
        f"{masks / '2.png'} is missing: every picture needs its label picture",
        f"{root / 'images' / 'train' / '9.jpg'} is missing",
    ]


def test_folders_that_are_links_belong_to_the_set(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "train").rename(root.parent / kind)
        (root / kind / "train").mkdir()
        (root / kind / "train" / "drive").symlink_to(root.parent / kind)
        (root / kind / "train" / "loop").symlink_to(root / kind)
    _, report = found(root)
    assert report["splits"]["train"]["pictures"] == 6
    assert "missing" not in report["problems"]


def test_pictures_that_are_turned_otherwise_than_their_masks_are_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the pixels were labelled as stored, the labels are upside down although the sizes agree."""
    train = [root / kind / "train" for kind in ("images", "masks")]
    stored = cv2.imread(str(train[1] / "1.png"), cv2.IMREAD_UNCHANGED)
    for path, orientation in ((train[0] / "0.jpg", 3), (train[0] / "1.jpg", 2), (train[1] / "1.png", 2)):
        path.write_bytes(turned(path.read_bytes(), orientation))
    code, report = found(root)
    assert (code, report["problems"], report["doubts"]["count"]) == (0, {}, 1)
    assert report["doubts"]["first"][0].startswith(f"{train[0] / '0.jpg'} has orientation 3, ")
    assert report["doubts"]["first"][0] in capsys.readouterr().out
    assert np.array_equal(open_data("folder", root, "train").sample(1).labels, stored[:, ::-1])
    (train[0] / "2.jpg").write_bytes(turned((train[0] / "2.jpg").read_bytes(), 6))
    code, report = found(root)
    assert code == 3
    assert "EXIF data rotate the picture (orientation 6)" in report["problems"]["size"]["first"][0]


def test_pictures_of_phones_are_read_upright_and_their_exif_data_are_no_doubt(root: Path) -> None:
    """A rotated HEIC says so twice, also in its EXIF data, which programs ignore."""
    train = root / "images" / "train"
    image = cv2.imread(str(train / "0.jpg"))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    (train / "0.heic").write_bytes(heic(np.rot90(image), (64, 48), (box(b"irot", b"\3"),)) + box(b"free", exif))
    (train / "1.avif").write_bytes(avif(np.rot90(image), (box(b"irot", b"\3"),)) + box(b"free", exif))
    for name in ("0.jpg", "1.jpg"):
        (train / name).unlink()
    code, report = found(root)
    assert (code, report["problems"], report["doubts"]["count"]) == (0, {}, 0)
    read = open_data("folder", root, "train").sample(0).image
    assert np.abs(read.astype(int) - image).mean() < 8


def test_every_kind_of_mistake_is_found(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "masks" / "train" / "0.png").unlink()
    (root / "images" / "val" / "0.jpg").unlink()
    (root / "images" / "train" / "1.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(root / "masks" / "train" / "2.png"), np.zeros((48, 60), np.uint8))
    cv2.imwrite(str(root / "masks" / "train" / "3.png"), np.full((48, 64), 9, np.uint8))
    twin = cv2.imread(str(root / "images" / "train" / "4.jpg"))
    cv2.imwrite(str(root / "images" / "val" / "2.jpg"), twin // 2 + 60)  # darker, lower contrast, compressed again
    code, report = found(root)
    assert code == 3
    problems = report["problems"]
    assert {kind: entry["count"] for kind, entry in problems.items()} == {
        "missing": 1, "unreadable": 1, "size": 1, "unknown label": 1, "stray": 1, "duplicate": 1,
    }  # fmt: skip
    assert "train/0.png is missing" in problems["missing"]["first"][0].replace("\\", "/")
    assert "48x60 but its picture is 48x64" in problems["size"]["first"][0]
    assert "holds id 9" in problems["unknown label"]["first"][0]
    assert problems["duplicate"]["first"][0].startswith("val/val/2 differs in ")
    assert problems["duplicate"]["first"][0].endswith("from train/train/4")
    printed = capsys.readouterr().out
    for entry in problems.values():
        assert entry["first"][0] in printed


def test_what_the_lists_leave_out_is_found(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "mine", ["a", "b", "c"])
    (root / "val.txt").write_text("b\n")
    code, report = found(root, "--alike", "-1")
    told = [line.replace("\\", "/") for line in report["problems"]["split"]["first"]]
    assert code == 3
    assert told[0] == "the list train.txt is missing"
    assert [line.removeprefix(root.as_posix()) for line in told[1:]] == [
        "/images/a.jpg is in no split", "/images/c.jpg is in no split",
    ]  # fmt: skip
    (root / "train.txt").write_text("a\nc\n")
    assert found(root, "--alike", "-1")[0] == 0


def test_what_the_folders_leave_out_is_found(root: Path) -> None:
    make_folder(root, ["loose"])
    shutil.rmtree(root / "images" / "val")
    shutil.rmtree(root / "masks" / "val")
    code, report = found(root)
    told = [line.replace("\\", "/") for line in report["problems"]["split"]["first"]]
    assert (code, told[0]) == (3, "the folder images/val is missing")
    assert told[1].endswith("images/loose.jpg is in no split")


def test_only_the_first_are_told_but_all_are_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mask in (root / "masks" / "train").iterdir():
        mask.unlink()
    code, report = found(root, "--first", "2")
    assert code == 3
    assert report["problems"]["missing"]["count"] == 6
    assert len(report["problems"]["missing"]["first"]) == 2
    assert "and 4 more" in capsys.readouterr().out


def test_samples_are_drawn_beside_their_colours(root: Path) -> None:
    ids = np.zeros((48, 64), np.uint8)
    ids[:, 32:] = 255
    for mask in (root / "masks").rglob("*.png"):
        cv2.imwrite(str(mask), ids)
    assert (
        call("rtseg data check", "--root", str(root), "--picture", str(root / "deep" / "samples.png")) == 3
    )  # no shed
    sheet = cv2.imread(str(root / "deep" / "samples.png"))
    assert sheet.shape[0] == 6 * 240
    assert tuple(sheet[100, 330]) == (0, 128, 0)  # grass
    assert tuple(sheet[100, 630]) == (0, 0, 0)  # not labelled
    assert call("rtseg data check", "--root", str(root), "--picture", "samples.txt") == 4


def test_hash_tells_a_changed_picture_from_another() -> None:
    rng = np.random.default_rng(0)
    one, other = (cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (640, 480)) for _ in range(2))
    copy = cv2.imdecode(cv2.imencode(".jpg", cv2.resize(one, (320, 240)), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
    hashes = [(name, difference_hash(image)) for name, image in (("copy", copy), ("other", other))]
    ((name, twin, bits),) = near_duplicates([("one", difference_hash(one))], hashes, 32)
    assert (name, twin) == ("copy", "one")
    assert bits < 16


def test_a_negative_number_of_bits_looks_for_no_duplicates(root: Path) -> None:
    image = cv2.imread(str(root / "images" / "train" / "0.jpg"))
    cv2.imwrite(str(root / "images" / "val" / "0.jpg"), image)
    sets = [open_data("folder", root, split) for split in ("train", "val")]
    assert set(check(sets).problems) == {"duplicate"}
    assert check(sets, -1).clean


def test_what_cannot_be_checked_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, told in (
        (["--root", str(tmp_path)], 3, "classes.json is missing"),
        ([], 2, "folder needs --root"),
        (["--data", "foldr", "--root", str(tmp_path)], 2, "did you mean folder"),
        (["--data", "camvid", "--root", str(tmp_path)], 3, "train.txt is missing"),
        (["--root", str(tmp_path), "--picture", "samples"], 4, "is not a picture format"),
        (["--root", str(tmp_path), "--alike", "999"], 2, "--alike is -1 to 256"),
    ):
        assert call("rtseg data check", *arguments) == code
        assert told in capsys.readouterr().err


def test_the_commands_defaults_are_the_librarys() -> None:
    assert CheckOptions().alike == ALIKE_BITS
    assert EvalOptions().boundary_tolerance == TOLERANCE


def test_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rtseg data list") == 0
    printed = capsys.readouterr().out
    for name in DATASETS:
        assert f"{name}: " in printed
    assert "images/, masks/ and classes.json" in printed
