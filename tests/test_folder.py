"""The folder data set: layouts, splits, classes.json."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from folder_tree import CLASSES, make_folder, write_classes
from heif_files import heic
from PIL import Image

from rtseg.core.errors import InputError
from rtseg.datasets import open_data
from rtseg.datasets.folder import rule_val
from rtseg.datasets.masks import ColourMasks, IdMasks, SampleError


def names(root: Path, split: str) -> list[str]:
    data = open_data("folder", root, split)
    return [data.sample(index).name for index in range(len(data))]


def test_pictures_and_masks_match_by_stem(tmp_path: Path) -> None:
    make_folder(tmp_path, ["train/b", "train/a", "val/c", "val/deep/a"])
    assert names(tmp_path, "train") == ["train/a", "train/b"]
    assert names(tmp_path, "val") == ["val/c", "val/deep/a"]
    data = open_data("folder", tmp_path, "train")
    assert (data.labels.name, data.labels.names) == (tmp_path.name, ("grass", "path", "shed"))
    sample = data.sample(0)
    assert (sample.image.shape, sample.labels.shape) == ((48, 64, 3), (48, 64))
    assert set(np.unique(sample.labels)) == {0, 1, 2, 255}
    with pytest.raises(InputError, match="has no split test; there: train, val"):
        open_data("folder", tmp_path, "test")


def test_lists_go_before_folders_and_take_names_with_or_without_suffix(tmp_path: Path) -> None:
    make_folder(tmp_path, ["train/a", "train/b", "val/c", "frame.0001"])
    (tmp_path / "train.txt").write_text("# mine\ntrain/b.jpg\n\nval/c\n")
    (tmp_path / "val.txt").write_text("train\\a\nframe.0001.jpg\n")
    (tmp_path / "test.txt").write_text("frame.0001\nlost.jpg\n")
    assert names(tmp_path, "train") == ["train/b", "val/c"]
    assert names(tmp_path, "val") == ["train/a", "frame.0001"]
    test = open_data("folder", tmp_path, "test")
    with pytest.raises(InputError, match="lost is missing"):
        test.sample(1)


def test_rule_keeps_neighbouring_frames_together(tmp_path: Path) -> None:
    first, second = ([f"{drive}/f_{i}" for i in range(8, 28)] for drive in ("one", "two"))
    assert rule_val([*second, *first]) == {f"{drive}/f_{i}" for drive in ("one", "two") for i in range(24, 28)}
    alone = ["cat", "dog_7", "emu", "fox", "gnu", "hen", "ibis", "jay", "kea", "lynx"]
    assert rule_val(alone) == {"kea", "lynx"}
    assert rule_val(["a_left_9", "a_left_10"]) == {"a_left_10"}
    assert rule_val(["a"]) == set()
    make_folder(tmp_path, ["f_9", "f_10", "f_11", "f_100", "f_8"])
    assert names(tmp_path, "train") == ["f_8", "f_9", "f_10", "f_11"]
    assert names(tmp_path, "val") == ["f_100"]


def test_ids_may_be_any_and_ignore_may_be_any(tmp_path: Path) -> None:
    make_folder(tmp_path, ["train/a", "val/b"])
    mask = tmp_path / "masks" / "train" / "a.png"
    values = np.array([[0, 255, 7]], np.uint8)
    cv2.imwrite(str(mask), np.resize(values, (48, 64)))
    two = [{"name": "off", "rgb": [0, 0, 0]}, {"name": "on", "rgb": [255, 255, 255], "id": 255}]
    write_classes(tmp_path, classes=two, ignore=7, name="switch")
    data = open_data("folder", tmp_path, "train")
    assert data.labels.name == "switch"
    assert data.sample(0).labels.ravel()[:3].tolist() == [0, 1, 255]
    write_classes(tmp_path, classes=two, ignore=None)
    with pytest.raises(InputError, match="holds id 7; allowed: 0, 255"):
        open_data("folder", tmp_path, "train").sample(0)


def test_masks_of_a_lossy_form_are_refused(tmp_path: Path) -> None:
    """Compression creates other classes along every border, which nobody would notice with ids from 0 on."""
    ids = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones((32, 32), np.uint8))
    coded = {
        "a JPEG": cv2.imencode(".jpg", ids, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes(),
        "an AVIF": cv2.imencode(".avif", ids)[1].tobytes(),
        "a HEIC": heic(cv2.merge([ids] * 3), (64, 96)),
        "a lossy WebP": cv2.imencode(".webp", cv2.merge([ids] * 3), [cv2.IMWRITE_WEBP_QUALITY, 100])[1].tobytes(),
        "a JPEG 2000": cv2.imencode(".jp2", ids)[1].tobytes(),
    }
    masks = IdMasks({value: value for value in range(256)})
    for what, data in coded.items():
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(SampleError, match=f"a.png is {what}, whose compression may change class ids"):
            masks.read(tmp_path / "a.png")
    for name in ("a.png", "a.bmp", "a.tif"):
        cv2.imwrite(str(tmp_path / name), ids)
        assert np.array_equal(masks.read(tmp_path / name), ids), name
    colours = {(value, value, value): value for value in range(6)}
    cv2.imwrite(str(tmp_path / "a.webp"), cv2.merge([ids] * 3), [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert np.array_equal(ColourMasks(colours).read(tmp_path / "a.webp"), ids)


def test_masks_may_be_colours(tmp_path: Path) -> None:
    make_folder(tmp_path, ["train/a", "val/b"])
    palette = np.array([entry["rgb"] for entry in CLASSES] + [[9, 9, 9]], np.uint8)
    ids = np.random.default_rng(1).integers(0, 4, (48, 64))
    cv2.imwrite(str(tmp_path / "masks" / "train" / "a.png"), palette[ids][..., ::-1])
    write_classes(tmp_path, masks="colours", ignore=[9, 9, 9])
    labels = open_data("folder", tmp_path, "train").sample(0).labels
    assert np.array_equal(labels, np.where(ids == 3, 255, ids))
    write_classes(tmp_path, masks="colours")
    with pytest.raises(InputError, match=r"holds colour \(9, 9, 9\)"):
        open_data("folder", tmp_path, "train").sample(0)
    with pytest.raises(InputError, match="not a picture in colours"):
        open_data("folder", tmp_path, "val").sample(0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_of_masks_is_dropped(tmp_path: Path, suffix: str) -> None:
    """OpenCV multiplies the colours of a TIFF by alpha, which changed the class of transparent pixels."""
    make_folder(tmp_path, ["train/a"])
    ids = np.random.default_rng(1).integers(0, 3, (48, 64))
    colours = np.array([entry["rgb"] for entry in CLASSES], np.uint8)[ids]
    (tmp_path / "masks/train/a.png").unlink()
    mask = np.dstack([colours, np.where(ids == 1, 0, 255).astype(np.uint8)])
    Image.fromarray(mask).save(tmp_path / f"masks/train/a{suffix}")
    write_classes(tmp_path, masks="colours")
    assert np.array_equal(open_data("folder", tmp_path, "train").sample(0).labels, ids)


def test_the_documented_classes_file_works(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    make_folder(tmp_path, ["train/a"])
    (tmp_path / "classes.json").write_text(text.split("```json\n")[1].split("```")[0])
    data = open_data("folder", tmp_path, "train")
    assert (data.labels.name, data.labels.names) == ("garden", ("grass", "path", "shed"))
    assert set(np.unique(data.sample(0).labels)) == {0, 1, 2, 255}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not a JSON file"),
        ("[]", "must be an object"),
        ("{}", "has no 'classes'"),
        ('{"classes": []}', "a list of 1 to 254 entries"),
        ('{"classes": ["grass"]}', "class 0 must be an object with the keys name, rgb"),
        ('{"classes": [{"name": "grass"}]}', "class 0 has no 'rgb'"),
        ('{"classes": [{"name": "grass", "rgb": [0, 300, 0]}]}', "is 300: it must be a whole number from 0 to 255"),
        ('{"classes": [{"name": "grass", "rgb": "green"}]}', r"must be \[red, green, blue\]"),
        ('{"classes": [{"name": "", "rgb": [0, 0, 0]}]}', "'name' must be a text"),
        (r'{"classes": [{"name": "a\nb", "rgb": [0, 0, 0]}]}', "'name' must be a text in one line"),
        (r'{"classes": [{"name": "\ud800", "rgb": [0, 0, 0]}]}', "'name' must be a text in one line"),
        (json.dumps({"classes": CLASSES, "name": None}), "'name' must be a text in one line, not None"),
        (json.dumps({"classes": CLASSES, "name": "a\nb"}), "'name' must be a text in one line"),
        (json.dumps({"classes": CLASSES, "masks": ["ids"]}), r"'masks' is \['ids'\]; allowed: 'ids'"),
        ("[" * 100_000, "is not a JSON file"),
        (json.dumps({"classes": [CLASSES[0], CLASSES[0]]}), "names of classes must differ, 'grass'"),
        (json.dumps({"classes": CLASSES, "ignored": 3}), "unknown key 'ignored'; allowed: classes, ignore"),
        (json.dumps({"classes": CLASSES, "ignore": 2}), "'ignore' is 2, which is a class too"),
        (json.dumps({"classes": CLASSES, "masks": "grey"}), "'masks' is 'grey'; allowed: 'ids'"),
        (json.dumps({"classes": CLASSES, "masks": "colours", "ignore": 255}), r"'ignore' is 255: it must be \[red"),
    ],
)
def test_a_wrong_classes_file_is_told_in_a_line(tmp_path: Path, content: str, told: str) -> None:
    make_folder(tmp_path, ["train/a"])
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(InputError, match=told) as error:
        open_data("folder", tmp_path, "train")
    assert "classes.json" in str(error.value)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (["Train/a", "Validation/b"], ["images/Train is not read as a split: call it train",
                                       "images/Validation is not read as a split: call it val"]),
        (["train/a", "train/b", "valid/c"], ["images/valid is not read as a split: call it val"]),
        (["a", "b", "test/c"], ["images/test is not read as a split, for images/train and images/val are missing: its "
                                "pictures may be in train or val"]),
        (["Train.txt", "test.txt"], ["Train.txt is not read as a split: call it train.txt",
                                     "test.txt is not read as a split, for train.txt and val.txt are missing: its "
                                     "pictures may be in train or val"]),
        (["train.txt", "valid.txt"], ["valid.txt is not read as a split: call it val.txt"]),
        (["train/a", "val/b", "drive/c"], []),
        (["test/a", "train/a", "val/a"], []),
    ],
)  # fmt: skip
def test_what_looks_like_a_split_and_is_none_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, made: list[str], told: list[str]
) -> None:
    """Pictures meant as holdouts were trained on because of the rule, without a warning."""
    lists = [name for name in made if name.endswith(".txt")]
    make_folder(tmp_path, ["a", "b"] if lists else made)
    for name in lists:
        (tmp_path / name).write_text("a\n")
    data = open_data("folder", tmp_path, "train")
    lines = [line.replace(str(tmp_path), "").replace("\\", "/") for line in caplog.messages]
    assert [line.replace(" /", " ").removeprefix("/") for line in lines] == told
    assert [line for line in data.gaps() if "not read as a split" in line] == caplog.messages


def test_one_picture_is_no_two_splits(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a"])
    with pytest.raises(InputError, match="holds one picture, which cannot be split into train and val: add pictures"):
        open_data("folder", tmp_path, "val")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "val.txt").write_text("# none yet\n")
    with pytest.raises(InputError, match=r"val\.txt names no picture"):
        open_data("folder", tmp_path, "val")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes\.json is missing: .* for example \{\"classes\""):
        open_data("folder", tmp_path, "train")
    write_classes(tmp_path)
    with pytest.raises(InputError, match="images is missing"):
        open_data("folder", tmp_path, "train")
    make_folder(tmp_path, ["train/a"])
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"val\.txt cannot be read as a list"):
        open_data("folder", tmp_path, "val")
    (tmp_path / "val.txt").unlink()
    make_folder(tmp_path, ["train/a"], suffix=".png")
    with pytest.raises(InputError, match="have the same name up to the suffix"):
        open_data("folder", tmp_path, "train")
