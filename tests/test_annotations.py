"""Labels as run lengths and polygons: drawing them yields the label map again, and so does reading the files."""

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from fakes import fake_network  # noqa: F401 - a fixture
from videos import make_video

from rtseg.apps._console import run
from rtseg.apps.video import app
from rtseg.core.errors import OutputError
from rtseg.core.labels import CAMVID11
from rtseg.pictures.outlines import Outline, fill, outlines
from rtseg.pictures.rle import rle_text, run_lengths, runs_of

RING = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 2, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], np.uint8)


def drawn(shapes: list[Outline], size_hw: tuple[int, int]) -> np.ndarray:
    labels = np.full(size_hw, 255, np.uint8)
    for shape in shapes:
        labels[fill([shape.points], size_hw)] = shape.label
    return labels


def odd_maps() -> list[np.ndarray]:
    """Noise, blobs, stripes, rings in rings, checkerboards, single rows and columns."""
    rng = np.random.default_rng(0)
    row = np.arange(9, dtype=np.uint8)[None]
    maps = [RING, np.kron(RING, np.ones((7, 9), np.uint8)), np.indices((6, 7)).sum(0).astype(np.uint8) % 2,
            np.zeros((1, 1), np.uint8), row, row.T]  # fmt: skip
    for seed in range(40):
        height, width = rng.integers(2, 36, 2).tolist()
        if seed % 2:
            maps.append(rng.integers(0, 4, (height, width)).astype(np.uint8))
        scores = cv2.resize(rng.random((5, 6, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        maps.append(scores.argmax(-1).astype(np.uint8))
    return maps


def inside(labels: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours all have the same class."""
    return cv2.erode(labels, np.ones((3, 3))) == cv2.dilate(labels, np.ones((3, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("labels", odd_maps())
def test_polygons_draw_the_label_map_again(labels: np.ndarray) -> None:
    """Exact with every corner; simplified, exact except at borders, and without gaps between neighbours."""
    np.testing.assert_array_equal(drawn(outlines(labels, exact=True), labels.shape), labels)
    again = drawn(outlines(labels), labels.shape)
    assert (again != 255).all()
    np.testing.assert_array_equal(again[inside(labels)], labels[inside(labels)])


def test_what_lies_in_a_hole_is_drawn_above_it() -> None:
    shapes = outlines(np.kron(RING, np.ones((4, 4), np.uint8)))
    assert [(shape.label, shape.depth, len(shape.points)) for shape in shapes] == [(1, 0, 4), (0, 1, 4), (2, 2, 4)]
    assert shapes[1].points.tolist() == [[4, 4], [16, 4], [16, 16], [4, 16]]


def test_a_slanted_border_has_few_corners() -> None:
    y, x = np.indices((200, 300))
    shapes = outlines((3 * x > 4 * y + 20).astype(np.uint8))
    assert sum(len(shape.points) for shape in shapes) <= 10
    assert sum(len(shape.points) for shape in outlines((3 * x > 4 * y + 20).astype(np.uint8), exact=True)) > 200


@pytest.mark.parametrize("labels", odd_maps()[::3])
def test_run_lengths_hold_the_label_map(labels: np.ndarray) -> None:
    again = np.full(labels.shape, 255, np.uint8)
    for label, runs in run_lengths(labels).items():
        np.testing.assert_array_equal(runs_of(rle_text(runs)), runs)
        assert runs.sum() == labels.size
        again.T.flat[np.repeat(np.arange(len(runs)) % 2 == 1, runs)] = label
    np.testing.assert_array_equal(again, labels)


def test_run_lengths_are_written_as_pycocotools_writes_them() -> None:
    """The library's own output (2.0.11) for the same masks."""
    labels = np.kron(
        np.array([[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [2, 2, 2, 1, 2]], np.uint8), np.ones((40, 3), np.uint8)
    )
    assert {label: rle_text(runs) for label, runs in run_lengths(labels).items()} == {
        0: "0`2X1000000000hQ1",
        1: "`f0`2X10000h8P:",
        2: "`2X1`2000000000000000h8P:",
    }


@pytest.fixture
def out(fake_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def video(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(app, [*arguments, "--model", "fake", "--output", "out"])
    return ended.value.code  # type: ignore[return-value]


def map_of(out: Path, index: int, name: str = "a") -> np.ndarray:
    labels: np.ndarray = cv2.imread(str(out / f"{name}_labels" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
    return labels


def test_a_video_becomes_annotations(out: Path) -> None:
    make_video(Path("a.mp4"), 50)  # two segments
    assert video("a.mp4", "--save", "labels,coco,polygons,frames") == 0
    names = ["a_coco.json", "a_cvat.xml", "a_frames", "a_labelme", "a_labels"]
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == names
    pictures = [f"frame_{index:06d}.jpg" for index in range(50)]
    assert sorted(path.name for path in (out / "a_frames").iterdir()) == pictures

    coco = json.loads((out / "a_coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == pictures
    assert coco["categories"][8] == {"id": 9, "name": "car", "supercategory": "camvid11", "color": [64, 0, 128]}
    assert len({one["id"] for one in coco["annotations"]}) == len(coco["annotations"])
    for one in coco["annotations"]:
        mask = map_of(out, one["image_id"] - 1) == one["category_id"] - 1
        runs = runs_of(one["segmentation"]["counts"])
        np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), mask.T.ravel())
        x, y, width, height = one["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum() == one["area"] > 0
        assert all(side.any() for side in (mask[y], mask[y + height - 1], mask[:, x], mask[:, x + width - 1]))

    root = ElementTree.parse(out / "a_cvat.xml").getroot()
    assert [label.findtext("name") for label in root.iter("label")] == list(CAMVID11.names)
    images = root.findall("image")
    assert [(image.get("id"), image.get("name")) for image in images] == [(str(i), n) for i, n in enumerate(pictures)]
    labelme = json.loads((out / "a_labelme" / "frame_000049.json").read_text())
    assert (out / "a_labelme" / labelme["imagePath"]).resolve() == out / "a_frames" / "frame_000049.jpg"
    shapes = [(one.get("label"), one.get("points")) for one in images[49]]
    written = [(one["label"], ";".join(f"{x:.2f},{y:.2f}" for x, y in one["points"])) for one in labelme["shapes"]]
    assert shapes == written
    labels = map_of(out, 49)
    again = np.full(labels.shape, 255, np.uint8)
    for one in labelme["shapes"]:
        again[fill([np.array(one["points"])], labels.shape)] = CAMVID11.index(one["label"])
    np.testing.assert_array_equal(again[inside(labels)], labels[inside(labels)])


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_files(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtseg.sinks.annotations import CvatLines

    make_video(Path("a.mp4"), 50)
    save = ("--save", "coco,polygons")
    assert video("a.mp4", *save) == 0
    whole = {path.relative_to(out): path.read_bytes() for path in out.rglob("a_*") if path.is_file()}
    whole |= {path.relative_to(out): path.read_bytes() for path in (out / "a_labelme").iterdir()}
    out.rename("whole")
    original = CvatLines.line

    def full(self: CvatLines, index: int, name: str, labels: np.ndarray) -> str:
        if index == 45:
            raise OutputError("this folder is gone")
        return original(self, index, name, labels)

    with monkeypatch.context() as patched:
        patched.setattr(CvatLines, "line", full)
        assert video("a.mp4", *save) == 4
    assert not list(out.glob("a_*"))
    assert sorted(path.name for path in (out / "a.partial" / "segments").iterdir()) == ["000000.coco", "000000.cvat"]
    (out / "a.partial" / "segments" / "000000.coco").write_text("cut sho")  # remains of a crash are made again
    assert video("a.mp4", *save) == 0
    for path, data in whole.items():
        assert (out / path).read_bytes() == data, path
    assert not (out / "a.partial").exists()


def test_pictures_keep_their_names(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("more").mkdir()
    for name in ("street 1.jpg", "street 2.png"):
        cv2.imwrite(f"more/{name}", np.full((64, 96, 3), 3, np.uint8))
    assert video("more", "--save", "polygons,coco") == 0
    assert sorted(path.name for path in (out / "more_labelme").iterdir()) == ["street 1.json", "street 2.json"]
    labelme = json.loads((out / "more_labelme" / "street 2.json").read_text())
    assert labelme["imagePath"] == "../../more/street 2.png"
    assert [shape["label"] for shape in labelme["shapes"]] == ["road"]
    assert [image["file_name"] for image in json.loads((out / "more_coco.json").read_text())["images"]] == [
        "street 1.jpg", "street 2.png",
    ]  # fmt: skip
    mine = out / "more_labelme" / "notes.json"
    mine.write_text("mine")
    assert video("more", "--save", "polygons,coco", "--overwrite") == 0
    assert mine.read_text() == "mine"
    cv2.imwrite("more/street 1.png", np.zeros((8, 8, 3), np.uint8))
    assert video("more", "--save", "labelme", "--overwrite") == 3
    assert "the same name up to the suffix" in capsys.readouterr().err


def test_names_that_xml_does_not_take(out: Path) -> None:
    Path("more").mkdir()
    cv2.imwrite("more/x.png", np.zeros((64, 96, 3), np.uint8))
    Path("more/x.png").rename("more/a<&\n\x01\"'.png")
    assert video("more", "--save", "cvat") == 0
    image = ElementTree.parse(out / "more_cvat.xml").getroot().find("image")
    assert image is not None
    assert image.get("name") == "a<&\n?\"'.png"
