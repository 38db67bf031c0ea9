from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from camvid_tree import NAMES, make_camvid

from rtseg.core.errors import InputError, UsageError
from rtseg.core.labels import CAMVID11
from rtseg.datasets import DATASETS, open_data
from rtseg.datasets.camvid import DRIVES
from rtseg.datasets.camvid_release import CAMVID32, RELEASE, split_of
from rtseg.datasets.cityscapes import CITYSCAPES19
from rtseg.datasets.lineage import seen_split
from rtseg.datasets.masks import SampleError

DOCS = Path(__file__).resolve().parents[1] / "docs" / "data.md"
CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid"


def test_tail_is_the_end_of_each_drive(tmp_path: Path) -> None:
    make_camvid(tmp_path, NAMES, size_hw=(8, 8))
    parts = {split: open_data("camvid", tmp_path, split) for split in ("train", "fit", "tail")}
    fit, tail = ([parts[split].sample(i).name for i in range(len(parts[split]))] for split in ("fit", "tail"))
    assert len(parts["train"]) == 60
    assert not set(fit) & set(tail)
    assert set(fit) | set(tail) == set(NAMES)
    assert tail == NAMES[17:20] + NAMES[54:60]


def names_of(data: str, root: Path, split: str) -> list[str]:
    return open_data(data, root, split).picture_names()


DRIVE_NAMES = {drive: [f"{drive}_{frame:05d}" for frame in range(0, 300, 30)] for drive in DRIVES}


@pytest.mark.parametrize("data", ["camvid", "camvid-full", "camvid32"])
def test_a_drive_is_left_out_whole(data: str, tmp_path: Path) -> None:
    stems = [name for names in DRIVE_NAMES.values() for name in names]
    if data == "camvid":
        make_camvid(tmp_path, [f"{stem}.png" for stem in stems], size_hw=(8, 8))
    else:
        make_release(tmp_path, stems)
    for drive, frames in DRIVE_NAMES.items():
        assert [Path(name).stem for name in names_of(data, tmp_path, f"only-{drive}")] == frames
        others = [Path(name).stem for name in names_of(data, tmp_path, f"without-{drive}")]
        assert others == [stem for stem in stems if stem not in frames]
    assert open_data(data, tmp_path, "only-0006R0").sample(3).name.startswith("0006R0_00090")


@pytest.mark.parametrize("data", ["camvid", "camvid-full"])
def test_an_eighth_is_spread_over_each_drive_in_time(data: str, tmp_path: Path) -> None:
    stems = [name for names in DRIVE_NAMES.values() for name in names]
    if data == "camvid":
        make_camvid(tmp_path, [f"{stem}.png" for stem in reversed(stems)], size_hw=(8, 8))
    else:
        make_release(tmp_path, stems)
    few = {Path(name).stem for name in names_of(data, tmp_path, "eighth")}
    rest = {Path(name).stem for name in names_of(data, tmp_path, "without-eighth")}
    assert few == {names[place] for names in DRIVE_NAMES.values() for place in (0, 8)}
    assert rest == set(stems) - few


def test_splits_share_pictures_as_their_lists_do(tmp_path: Path) -> None:
    """For any two splits: what the lineage says without reading files agrees with the files."""
    make_camvid(tmp_path, [f"{stem}.png" for names in DRIVE_NAMES.values() for stem in names], size_hw=(8, 8))
    make_camvid(tmp_path, ["0016E5_07959.png"], "val", size_hw=(8, 8))
    make_camvid(tmp_path, ["Seq05VD_f00000.png"], "test", size_hw=(8, 8))
    kind = DATASETS.get("camvid")
    found = {split: set(names_of("camvid", tmp_path, split)) for split in kind.splits}
    for one, other in product(kind.splits, kind.splits):
        assert kind.share_pictures(one, other) == bool(found[one] & found[other]), (one, other)
    assert seen_split({"data": "camvid32", "split": "without-0006R0"}, "camvid", "only-0006R0") is None
    assert seen_split({"data": "camvid32", "split": "without-0006R0"}, "camvid", "tail") == "camvid32/without-0006R0"
    assert kind.present(tmp_path) == ["train", "val", "test"]  # read by `data check`, each picture once


def test_a_drive_that_is_not_there_is_told(tmp_path: Path) -> None:
    make_camvid(tmp_path, NAMES[:2], size_hw=(8, 8))
    with pytest.raises(InputError, match=r"train\.txt lists no pictures of the split only-0006R0"):
        open_data("camvid", tmp_path, "only-0006R0")
    with pytest.raises(InputError, match=r"lists no pictures of the split without-0001TP"):
        open_data("camvid", tmp_path, "without-0001TP")


def test_sample_is_picture_and_labels(tmp_path: Path) -> None:
    make_camvid(tmp_path, NAMES[:2])
    data = open_data("camvid", tmp_path, "train")
    sample = data.sample(1)
    assert data.size_hw == (48, 64)
    assert (sample.image.shape, sample.image.dtype) == ((48, 64, 3), np.uint8)
    assert (sample.labels.shape, sample.labels.dtype) == ((48, 64), np.uint8)


def test_bad_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.txt is missing"):
        open_data("camvid", tmp_path, "train")
    make_camvid(tmp_path, NAMES[:3])
    with pytest.raises(UsageError, match="unknown split of camvid 'vall'"):
        open_data("camvid", tmp_path, "vall")
    with pytest.raises(UsageError, match="--root"):
        open_data("camvid", None, "val")
    data = open_data("camvid", tmp_path, "train")
    labels = tmp_path / "trainannot" / NAMES[1]
    cv2.imwrite(str(labels), np.full((48, 64), 12, np.uint8))
    with pytest.raises(SampleError, match=r"holds id 12; allowed: 0\.\.11") as told:
        data.sample(1)
    assert told.value.kind == "unknown label"
    cv2.imwrite(str(labels), np.zeros((24, 64), np.uint8))
    with pytest.raises(InputError, match="sizes must agree"):
        data.sample(1)
    cv2.imwrite(str(labels), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r'colour or palette picture, not .* ids; .*"masks": "colours"'):
        data.sample(1)
    labels.write_bytes(b"no picture")
    with pytest.raises(InputError, match="damaged or cut short"):
        data.sample(1)
    labels.unlink()
    with pytest.raises(InputError, match="is missing"):
        data.sample(1)


def test_scenes_are_labelled_and_splits_differ() -> None:
    val, train = open_data("scenes", None, "val"), open_data("scenes", None, "train")
    first = val.sample(0)
    assert first.image.shape[:2] == first.labels.shape == val.size_hw
    assert first.labels.max() < len(val.labels)
    assert np.array_equal(first.image, val.sample(0).image)
    assert not np.array_equal(first.image, train.sample(0).image)


def test_every_data_set_states_its_splits() -> None:
    for name in DATASETS:
        assert DATASETS.get(name).splits


def make_release(root: Path, names: list[str]) -> None:
    """A tiny copy of CamVid's original release: column i of a label picture has class i's colour; the last is Void."""
    for folder in ("701_StillsRaw_full", "LabeledApproved_full"):
        (root / folder).mkdir(parents=True)
    colours = np.array([colour for _, colour, _ in RELEASE] + [(0, 0, 0)], np.uint8)
    for name in names:
        cv2.imwrite(str(root / "701_StillsRaw_full" / f"{name}.png"), np.full((4, 32, 3), 90, np.uint8))
        bgr = np.repeat(colours[None, :, ::-1], 4, 0)
        cv2.imwrite(str(root / "LabeledApproved_full" / f"{name}_L.png"), bgr)


RELEASE_NAMES = [
    "0001TP_006690", "0001TP_008520", "0001TP_008550", "0006R0_f00930", "0016E5_00901", "0016E5_07920", "0016E5_07959",
    "0016E5_08159", "0016E5_08190", "Seq05VD_f00000",
]  # fmt: skip


def test_release_has_segnets_splits(tmp_path: Path) -> None:
    make_release(tmp_path, RELEASE_NAMES)
    found = {
        split: [pair.name for pair in open_data("camvid32", tmp_path, split).pairs]  # type: ignore[attr-defined]
        for split in ("train", "val", "test")
    }
    assert found["val"] == ["0016E5_07959", "0016E5_08159"]
    assert found["test"] == ["0001TP_008550", "Seq05VD_f00000"]
    assert sorted(name for names in found.values() for name in names) == RELEASE_NAMES


def test_release_has_the_splits_whose_pictures_are_there(tmp_path: Path) -> None:
    kind = DATASETS.get("camvid-full")
    make_release(tmp_path, [name for name in RELEASE_NAMES if not name.startswith(("Seq05VD", "0001TP_008550"))])
    assert kind.present(tmp_path) == ["train", "val"]
    assert kind.present(tmp_path / "nowhere") == []


def test_release_labels_are_its_31_classes_or_their_11_groups(tmp_path: Path) -> None:
    make_release(tmp_path, RELEASE_NAMES)
    all_classes = open_data("camvid32", tmp_path, "val").sample(0)
    assert len(CAMVID32) == 31
    assert all_classes.labels[0].tolist() == [*range(31), CAMVID32.ignore_index]
    groups = open_data("camvid-full", tmp_path, "val")
    assert groups.labels == CAMVID11
    row = groups.sample(0).labels[0]
    assert [CAMVID11.names[index] for index in row[:31]] == [group for _, _, group in RELEASE]
    assert row[31] == CAMVID11.ignore_index
    assert set(row[:31]) == set(range(11))


def test_release_has_the_tail_of_each_training_drive_too(tmp_path: Path) -> None:
    make_release(tmp_path, [f"0006R0_f{frame:05d}" for frame in range(930, 1530, 30)])
    fit, tail = (open_data("camvid-full", tmp_path, split) for split in ("fit", "tail"))
    assert (len(fit), len(tail)) == (17, 3)
    assert tail.sample(0).name == "0006R0_f01440"
    with pytest.raises(InputError, match="holds no picture of the val split"):
        open_data("camvid-full", tmp_path, "val")


def test_the_grouping_is_documented_as_it_is() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for group in CAMVID11.names:
        members = ", ".join(name for name, _, theirs in RELEASE if theirs == group)
        assert f"| {group} | {members} |\n" in text
    for name in DATASETS:
        assert f"| `{name}` |" in text


def test_release_refuses_colours_it_does_not_know(tmp_path: Path) -> None:
    make_release(tmp_path, RELEASE_NAMES)
    path = tmp_path / "LabeledApproved_full" / "0016E5_07959_L.png"
    labels = cv2.imread(str(path))
    labels[0, :2] = (3, 2, 1)  # BGR
    cv2.imwrite(str(path), labels)
    with pytest.raises(SampleError, match=r"0016E5_07959_L\.png holds colour \(1, 2, 3\) .* in 2 pixels"):
        open_data("camvid32", tmp_path, "val").sample(0)


def test_each_layout_of_camvid_names_the_other(tmp_path: Path) -> None:
    make_release(tmp_path / "release", RELEASE_NAMES)
    make_camvid(tmp_path / "segnet", NAMES[:2])
    with pytest.raises(InputError, match="use the data set camvid-full or camvid32"):
        open_data("camvid", tmp_path / "release", "val")
    with pytest.raises(InputError, match="use the data set camvid"):
        open_data("camvid32", tmp_path / "segnet", "val")
    with pytest.raises(InputError, match=r"no \*\.png in .*701_StillsRaw_full"):
        open_data("camvid-full", tmp_path, "val")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
@pytest.mark.parametrize("split", ["train", "val"])
def test_split_rule_of_the_release_gives_segnets_lists(split: str) -> None:
    names = [pair.name for pair in open_data("camvid", CAMVID, split).pairs]  # type: ignore[attr-defined]
    assert {split_of(Path(name).stem) for name in names} == {split}


def test_cityscapes_ids_become_its_19_classes(tmp_path: Path) -> None:
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "munster")):
        pictures, masks = tmp_path / "leftImg8bit" / split / city, tmp_path / "gtFine" / split / city
        pictures.mkdir(parents=True)
        masks.mkdir(parents=True)
        name = f"{city}_000000_000019"
        cv2.imwrite(str(pictures / f"{name}_leftImg8bit.png"), np.zeros((2, 34, 3), np.uint8))
        cv2.imwrite(str(masks / f"{name}_gtFine_labelIds.png"), np.repeat(np.arange(34, dtype=np.uint8)[None], 2, 0))
    data = open_data("cityscapes", tmp_path, "train")
    assert [data.sample(index).name for index in range(len(data))] == [
        "aachen_000000_000019", "bochum_000000_000019"
    ]  # fmt: skip
    row = open_data("cityscapes", tmp_path, "val").sample(0).labels[0]
    assert row[row != 255].tolist() == list(range(19))  # the benchmark orders its classes by their ids
    names = {7: "road", 11: "building", 24: "person", 33: "bicycle"}
    assert {key: CITYSCAPES19.names[row[key]] for key in names} == names
    assert row[[0, 3, 9, 18, 29, 30]].tolist() == [255] * 6
    mask = masks / f"{name}_gtFine_labelIds.png"
    cv2.imwrite(str(mask), np.full((2, 34), 34, np.uint8))
    with pytest.raises(SampleError, match=r"holds id 34; allowed: 0\.\.33"):
        open_data("cityscapes", tmp_path, "val").sample(0)
    with pytest.raises(UsageError, match="unknown split of cityscapes 'test'"):
        open_data("cityscapes", tmp_path, "test")
    with pytest.raises(InputError, match="the data set's folder holds leftImg8bit/SPLIT/CITY"):
        open_data("cityscapes", tmp_path / "gtFine", "val")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
def test_camvid_splits_have_their_published_sizes() -> None:
    splits = ("train", "val", "fit", "tail", "eighth", "without-eighth", *(f"only-{drive}" for drive in DRIVES))
    sizes = {split: len(open_data("camvid", CAMVID, split)) for split in splits}
    assert sizes == {"train": 367, "val": 101, "fit": 312, "tail": 55, "eighth": 47, "without-eighth": 320,
                     "only-0001TP": 62, "only-0006R0": 101, "only-0016E5": 204}  # fmt: skip
    sample = open_data("camvid", CAMVID, "val").sample(50)
    assert sample.image.shape == (360, 480, 3)
    assert set(np.unique(sample.labels)) <= set(range(12))
