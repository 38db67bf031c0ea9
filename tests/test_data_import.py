"""`rtseg data import`: exports of annotation tools, and results of `rtseg-video --save`, become a folder."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import fake_network  # noqa: F401 - a fixture
from heif_files import box, heic
from test_commands import call

from rtseg.core.errors import RtsegError
from rtseg.datasets import open_data
from rtseg.datasets.imports import open_export
from rtseg.datasets.imports.label_studio import brush_mask

SIZE = (24, 32)
CVAT = """<annotations><version>1.1</version><meta><task><labels>
<label><name>grass</name><color>#008000</color></label><label><name>path</name><color>#808080</color></label>
</labels></task></meta>
<image id="0" name="a.png" width="32" height="24">{shapes}</image>
<image id="1" name="b.png" width="32" height="24"><polygon label="path" points="0,0;32,0;32,24;0,24"/></image>
<image id="2" name="c.png" width="32" height="24"></image></annotations>"""


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three very different pictures, in `made/pictures`."""
    monkeypatch.chdir(tmp_path)
    Path("made/pictures").mkdir(parents=True)
    for number, name in enumerate("abc"):
        noise = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
        cv2.imwrite(f"made/pictures/{name}.png", np.kron(noise, np.ones((8, 8, 1), np.uint8)))


def imported(name: str, source: str, *more: str) -> int:
    return call("rtseg data import", name, source, "--output", "set", *more)


def mask(name: str) -> np.ndarray:
    found: np.ndarray = cv2.imread(f"set/masks/{name}.png", cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint8
    return found


def classes() -> list[str]:
    return [one["name"] for one in json.loads(Path("set/classes.json").read_text())["classes"]]


def empty() -> np.ndarray:
    return np.full(SIZE, 255, np.uint8)


def test_cvat_by_z_order_with_masks_and_what_is_not_labelled(capsys: pytest.CaptureFixture[str]) -> None:
    shapes = (
        '<polygon label="path" z_order="1" points="4.00,4.00;12.00,4.00;12.00,12.00;4.00,12.00"/>'
        '<polygon label="grass" z_order="0" points="0,0;16,0;16,24;0,24"/>'
        '<mask label="path" z_order="2" rle="0, 2, 1, 3" left="20" top="3" width="3" height="2"/>'
        '<box label="grass" z_order="0" xtl="24" ytl="8" xbr="28" ybr="10"/><tag label="sunny"/>'
    )
    Path("made/annotations.xml").write_text(CVAT.format(shapes=shapes))
    assert imported("cvat", "made") == 3  # as `rtseg data check` reports, val has no grass
    expected = empty()
    expected[:, :16], expected[4:12, 4:12] = 0, 1
    expected[8:10, 24:28] = 0
    expected[3, 20:22] = expected[4, 20:23] = 1
    np.testing.assert_array_equal(mask("a"), expected)
    assert (mask("b") == 1).all()
    assert json.loads(Path("set/classes.json").read_text())["classes"][0] == {"name": "grass", "rgb": [0, 128, 0]}
    assert Path("set/images/a.png").read_bytes() == Path("made/pictures/a.png").read_bytes()
    assert not Path("set/images/c.png").exists()
    printed = capsys.readouterr().out
    assert "2 pictures with their masks are in set" in printed
    assert "1 pictures without a shape are left out" in printed
    assert "val has no pixel of 'grass'" in printed
    train = open_data("folder", Path("set"), "train")
    np.testing.assert_array_equal(train.sample(0).labels, expected)


def test_a_background_and_a_list_of_classes() -> None:
    Path("made/annotations.xml").write_text(CVAT.format(shapes='<box label="path" xtl="0" ytl="0" xbr="4" ybr="4"/>'))
    listed = [{"name": name, "rgb": [index, 0, 0]} for index, name in enumerate(["nothing", "path", "grass"])]
    Path("mine.json").write_text(json.dumps({"classes": listed}))
    assert imported("cvat", "made", "--classes", "mine.json", "--background", "nothing") == 3  # no pixel of grass
    assert classes() == ["nothing", "path", "grass"]
    assert (mask("c") == 0).all()
    assert (mask("a")[:4, :4] == 1).all()
    assert (mask("a") == 1).sum() == 16


def labelme(name: str, *shapes: dict[str, object], **more: object) -> None:
    data = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"pictures\\{name}.png",
            "imageData": None, "imageHeight": 24, "imageWidth": 32, **more}  # fmt: skip
    Path(f"made/{name}.json").write_text(json.dumps(data))


def test_labelme_in_the_files_order_with_every_kind_of_area() -> None:
    blob = np.array([[0, 255], [255, 255]], np.uint8)
    png = b64encode(cv2.imencode(".png", blob)[1].tobytes()).decode()
    labelme(
        "a",
        {"label": "path", "points": [[0, 0], [20, 0], [20, 24], [0, 24]], "shape_type": "polygon"},
        {"label": "grass", "points": [[2, 2], [10, 8]], "shape_type": "rectangle"},
        {"label": "__ignore__", "points": [[4, 4], [6, 6]], "shape_type": "rectangle"},
        {"label": "shed", "points": [[28, 12], [28, 15]], "shape_type": "circle"},
        {"label": "grass", "points": [[30, 20], [31, 21]], "shape_type": "mask", "mask": png},
    )
    picture = b64encode(Path("made/pictures/b.png").read_bytes()).decode()
    labelme("b", {"label": "path", "points": [[0, 0], [9, 0], [0, 9]]}, imagePath="gone.png", imageData=picture)
    imported("labelme", "made")
    assert classes() == ["grass", "path", "shed"]
    expected = empty()
    expected[:, :20], expected[2:8, 2:10], expected[4:6, 4:6] = 1, 0, 255
    y, x = np.indices(SIZE) + 0.5
    expected[np.hypot(x - 28, y - 12) < 3] = 2
    expected[20, 31] = expected[21, 30:32] = 0
    np.testing.assert_array_equal(mask("a"), expected)
    assert Path("set/images/b.png").read_bytes() == Path("made/pictures/b.png").read_bytes()
    np.testing.assert_array_equal(mask("b") == 1, x + y < 9)


def test_pictures_that_opencv_does_not_read_are_imported_too(capsys: pytest.CaptureFixture[str]) -> None:
    image = cv2.imread("made/pictures/a.png")
    Path("made/pictures/a.heic").write_bytes(heic(image, SIZE))
    Path("made/pictures/b.heic").write_bytes(heic(np.rot90(cv2.imread("made/pictures/b.png")), SIZE[::-1],
                                                  (box(b"irot", b"\3"),)))  # fmt: skip
    for name in "ab":
        rectangle = {"label": "path", "points": [[0, 0], [32, 24]], "shape_type": "rectangle"}
        labelme(name, rectangle, imagePath=f"pictures/{name}.heic")
    assert imported("labelme", "made") == 0
    assert {path.name for path in Path("set/images").iterdir()} == {"a.heic", "b.heic"}
    assert (mask("a") == 0).all()
    assert mask("b").shape == SIZE
    Path("made/pictures/b.heic").write_bytes(b"no picture")
    assert call("rtseg data import", "labelme", "made", "--output", "other") == 3
    assert "b.heic cannot be read as a picture" in capsys.readouterr().err
    assert not Path("other").exists()


def packed(values: np.ndarray) -> list[int]:
    """Packs a brush like Label Studio: runs of equal values as runs, single ones as they are."""
    bits = f"{values.size:032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in (3, 4, 8, 16))
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), values.size]
    place = 0
    while place < len(starts) - 1:
        first, stop = starts[place], starts[place + 1]
        if stop - first > 1:
            kind = next(kind for kind, length in enumerate((3, 4, 8, 16)) if stop - first - 1 < 1 << length)
            bits += f"1{kind:02b}{stop - first - 1:0{(3, 4, 8, 16)[kind]}b}{values[first]:08b}"
        else:
            bits += f"000{0:03b}{values[first]:08b}"
        place += 1
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def region(kind: str, label: str, **value: object) -> dict[str, object]:
    return {"type": kind, "original_width": 32, "original_height": 24, "image_rotation": 0,
            "value": {**value, kind: [label]}}  # fmt: skip


def test_label_studio_brushes_and_shapes() -> None:
    brush = np.random.default_rng(0).random(SIZE) < 0.3
    brush[4:20, 3:30] = True
    values = np.zeros((*SIZE, 4), np.uint8)
    values[brush] = (7, 8, 9, 255)
    half = [[0, 0], [50, 0], [50, 100], [0, 100]]
    newest = {"updated_at": "2026-02-01", "result": [
        region("polygonlabels", "path", points=half),
        region("brushlabels", "grass", format="rle", rle=packed(values.ravel())),
        region("rectanglelabels", "shed", x=75, y=50, width=12.5, height=25, rotation=90),
        {"type": "choices", "value": {"choices": ["sunny"]}},
    ]}  # fmt: skip
    older = {"updated_at": "2026-01-01", "result": [region("polygonlabels", "wrong", points=half)]}
    tasks = [
        {"id": 5, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [older, newest]},
        {"id": 6, "data": {"image": "/data/local-files/?d=here/b.png"}, "annotations": [newest]},
        {"id": 7, "data": {"image": "https://host/c.png"}, "annotations": [{"was_cancelled": True, "result": []}]},
    ]
    Path("made/export.json").write_text(json.dumps(tasks))
    assert imported("label-studio", "made/export.json") == 0
    assert classes() == ["grass", "path", "shed"]
    expected = empty()
    expected[:, :16] = 1
    expected[brush] = 0
    expected[12:16, 18:24] = 2  # 4 wide and 6 high, rotated about (24, 12)
    np.testing.assert_array_equal(mask("0a1b2c3d-a"), expected)
    np.testing.assert_array_equal(mask("b"), expected)


def test_a_brush_that_label_studio_packed() -> None:
    """The example in the format's documentation: four equal values, then two different ones."""
    bits = (
        f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
        + "100"
        + "011"
        + f"{0:08b}"
        + "000"
        + "011"
        + "".join(f"{value:08b}" for value in (1, 2, 3, 255))
    )
    bits += "0" * (-len(bits) % 8)
    found = brush_mask([int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)], (1, 2), "here")
    assert found.tolist() == [[False, True]]


def test_yolo_smaller_above_larger_in_its_splits(capsys: pytest.CaptureFixture[str]) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        Path(f"made/images/{split}").mkdir(parents=True, exist_ok=True)
        Path(f"made/labels/{split}").mkdir(parents=True, exist_ok=True)
        Path(f"made/pictures/{name}.png").rename(f"made/images/{split}/{name}.png")
        square = "1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"
        Path(f"made/labels/{split}/{name}.txt").write_text(f"{square}\n0 0 0 1 0 1 0.75 0 0.75\n")
    Path("made/data.yaml").write_text(
        "path: /gone\ntrain: ../images/train\nval: val.txt\nnames:\n  0: grass\n  1: path\n"
    )
    Path("made/val.txt").write_text("./images/val/c.png\n")
    Path("made/images/train/._a.png").write_bytes(bytes(99))  # macOS leaves such files
    Path("made/images/train/d.gif").write_bytes(b"GIF89a")
    assert imported("yolo", "made") == 0
    assert "train: 1 file is skipped (no picture or video suffix): d.gif" in " ".join(capsys.readouterr().out.split())
    expected = empty()
    expected[:18], expected[6:12, 8:16] = 0, 1
    for name in ("train/a", "train/b", "val/c"):
        np.testing.assert_array_equal(mask(name), expected)
    assert classes() == ["grass", "path"]


@pytest.mark.parametrize(
    ("files", "arguments", "code", "message"),
    [
        ({}, ("cvta", "made"), 2, "did you mean cvat"),
        ({}, ("cvat", "gone"), 3, "no such file or folder: gone"),
        ({}, ("cvat", "made"), 3, "made holds no *.xml: name the XML file of an export 'CVAT for images 1.1'"),
        ({"x.zip": "PK"}, ("cvat", "made/x.zip"), 3, "unpack it"),
        ({"x.xml": "<annotations"}, ("cvat", "made"), 3, "made/x.xml is not an XML file"),
        ({"x.xml": "<annotations><track/></annotations>"}, ("cvat", "made"), 3, "export it as 'CVAT for images 1.1'"),
        ({"x.xml": CVAT.format(shapes='<polyline label="path" points="0,0;1,1"/>')}, ("cvat", "made"), 3,
         "a.png, path has a shape of the kind 'polyline', which covers no area"),
        ({"x.xml": CVAT.format(shapes='<polygon label="path" points="0,0;1,1"/>')}, ("cvat", "made"), 3,
         "a polygon of 2 points: remove it"),
        ({"x.xml": CVAT.format(shapes='<polygon label="sky" points="0,0;1,1;0,1"/>')}, ("cvat", "made"), 3,
         "has the class 'sky', which is not listed; there are: grass, path"),
        ({"x.xml": CVAT.format(shapes='<mask label="path" rle="1,2" left="0" top="0" width="2" height="2"/>')},
         ("cvat", "made"), 3, "runs add up to 3 pixels, not to the 4 of 2x2"),
        ({"x.xml": CVAT.format(shapes="").replace("b.png", "gone.png")}, ("cvat", "made"), 3,
         "names the picture gone.png, which is not in made or below it: give the folder that holds it with --images"),
        ({"x.xml": CVAT.format(shapes="").replace("b.png", "b.gif"), "pictures/b.gif": "GIF89a"}, ("cvat", "made"), 3,
         "names the picture b.gif, whose kind is not read: convert it to PNG or JPEG"),
        ({"x.xml": CVAT.format(shapes="").replace('height="24"', 'height="25"')}, ("cvat", "made"), 3,
         "is for a picture of 25x32, but made/pictures/b.png has 24x32"),
        ({"x.json": "{"}, ("labelme", "made"), 3, "made/x.json is not a JSON file"),
        ({"x.json": "{}"}, ("labelme", "made"), 3, "made/x.json is not a LabelMe file"),
        ({"x.json": json.dumps({"imagePath": "a.png", "shapes": [
            {"label": "x", "points": [[0, 0], [1, 1]], "shape_type": "line"}]})}, ("labelme", "made"), 3,
         "kind 'line'"),
        ({"x.json": '[{"image": "a.png"}]'}, ("label-studio", "made"), 3, "export as JSON, not JSON-MIN"),
        ({"x.json": json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [
            region("brushlabels", "x", rle=packed(np.zeros(8, np.uint8)))]}]}])}, ("label-studio", "made"), 3,
         "a brush of 8 values, not of the 3072"),
        ({"data.yaml": "train: pictures"}, ("yolo", "made"), 3, "has no 'names'"),
        ({"data.yaml": "train: gone\nnames: [x]"}, ("yolo", "made"), 3, "train is in gone, which is not there"),
        ({"data.yaml": "train: pictures\nnames: [x]", "pictures/a.txt": "0 0.5 0.5 0.1 0.1"}, ("yolo", "made"), 3,
         "made/pictures/a.txt, line 1 has a box, not a polygon"),
        ({"x.json": "{}"}, ("coco", "made"), 3, "has no images, annotations and categories"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_said_in_one_line(
    files: dict[str, str], arguments: tuple[str, str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (Path("made") / name).write_text(text)
    assert imported(*arguments) == code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(Path().iterdir()) == [Path("made")]


def test_a_class_that_the_folder_could_not_name_is_told_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labelme("a", {"label": "road\nside", "points": [[0, 0], [9, 0], [0, 9]]})
    assert call("rtseg data import", "labelme", "made", "--output", "other") == 3
    told = "error: made has classes that classes.json cannot hold: class 0: 'name' must be a text in one line"
    assert capsys.readouterr().err.startswith(told)
    assert not list(Path().glob("other*"))


def test_an_import_beside_another_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It was told to remove the folder that the other one was writing."""
    labelme("a", {"label": "road", "points": [[0, 0], [9, 0], [0, 9]]})
    Path("other.partial").mkdir()
    assert call("rtseg data import", "labelme", "made", "--output", "other") == 4
    assert "other.partial is there: another import is writing it, or was interrupted" in capsys.readouterr().err
    assert Path("other.partial").exists()


def test_nothing_is_overwritten_and_nothing_lands_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    text = CVAT.format(shapes="").replace("b.png", "../../b.png")
    Path("made/x.xml").write_text(text)
    assert imported("cvat", "made") == 3  # one picture cannot be split
    assert Path("set/images/b.png").exists()
    before = Path("set/classes.json").read_text()
    capsys.readouterr()
    assert imported("cvat", "made") == 4
    assert "set exists already: choose another --output" in capsys.readouterr().err
    assert Path("set/classes.json").read_text() == before


@pytest.mark.parametrize("name", ["coco", "cvat", "labelme"])
def test_what_rtseg_video_saves_is_imported_again(name: str, fake_network: Path) -> None:  # noqa: F811
    for picture in Path("made/pictures").iterdir():
        blocks = np.random.default_rng(len(picture.name)).integers(0, 11, (3, 4, 1), np.uint8)
        cv2.imwrite(str(picture), np.tile(np.kron(blocks, np.ones((32, 32, 1), np.uint8)), 3))
    code = call("rtseg-video", "made/pictures", "--output", "out", "--model", "fake", "--save", f"labels,{name}")
    assert code == 0
    source = {"coco": "pictures_coco.json", "cvat": "pictures_cvat.xml", "labelme": "pictures_labelme"}[name]
    imported(name, f"out/{source}", "--images", "made/pictures")
    for index, picture in enumerate("abc"):
        labels = cv2.imread(f"out/pictures_labels/{index:06d}.png", cv2.IMREAD_UNCHANGED)
        if name == "labelme":  # lists no classes: those that occur
            listed = [*open_data("scenes", None, "val").labels.names]
            labels = np.array([classes().index(one) if one in classes() else 0 for one in listed], np.uint8)[labels]
        inner = cv2.erode(labels, np.ones((3, 3))) == cv2.dilate(labels, np.ones((3, 3)))
        again = mask(picture)
        assert len(np.unique(labels)) > 5
        assert (again != 255).all()
        np.testing.assert_array_equal(
            again if name == "coco" else again[inner], labels if name == "coco" else labels[inner]
        )


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 32}],
    "categories": [{"id": 1, "name": "grass", "color": [0, 128, 0]}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9]]}],
}
LABEL_STUDIO = [{
    "id": 1, "data": {"image": "a.png"},
    "annotations": [{"was_cancelled": False, "updated_at": "2026", "result": [{
        "type": "polygonlabels", "original_width": 32, "original_height": 24, "image_rotation": 0,
        "value": {"polygonlabels": ["grass"], "points": [[0, 0], [50, 0], [50, 50]]},
    }]}],
}]  # fmt: skip
LABELME = {
    "shapes": [{"label": "grass", "points": [[0, 0], [9, 0], [9, 9]], "shape_type": "polygon"}],
    "imagePath": "a.png", "imageData": None, "imageHeight": 24, "imageWidth": 32,
}  # fmt: skip


def damaged(node: object) -> Iterator[object]:
    """Copies of a JSON document in each of which one value has another type."""
    yield from (other for other in (None, 7, "x", [], {}, [None], [{}]) if type(other) is not type(node) or other)
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            for other in damaged(node[key]):  # type: ignore[index]
                copy = node.copy()
                copy[key] = other  # type: ignore[index]
                yield copy


@pytest.mark.parametrize(("name", "good"), [("coco", COCO), ("label-studio", LABEL_STUDIO), ("labelme", LABELME)])
def test_no_damaged_entry_is_a_defect(name: str, good: object) -> None:
    file, count = Path("made/export.json"), 0
    for data in (good, *damaged(good)):
        file.write_text(json.dumps(data))
        try:
            list(open_export(name, file, Path("made/pictures")).pictures())
            count += 1
        except RtsegError:
            continue
        finally:
            assert count  # the first is valid
