"""The examples in docs/python.md run as they are, in order, and what they stand for returns what the page says."""

import json
import re
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakeEngine, FlyingEngine, fake_card, fake_segmenter, make_network
from folder_tree import write_classes
from videos import make_video

import rtseg
from rtseg.core.errors import EngineError, InputError, UsageError
from rtseg.core.labels import CAMVID11
from rtseg.datasets.classes import read_classes
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.confidence import confidence

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def picture(seed: int = 0, size_hw: tuple[int, int] = (64, 96)) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 11, (4, 6, 1), np.uint8)
    return cv2.resize(np.tile(blocks, 3), size_hw[::-1], interpolation=cv2.INTER_NEAREST)


@pytest.mark.slow  # measures every installed engine, for the deadline
def test_every_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    make_network(tmp_path / "weights", "icnet", size_multiple=8)
    monkeypatch.setattr("rtseg.core.zoo.weights_folder", lambda: tmp_path / "weights")
    make_video(tmp_path / "drive.mp4", 3)
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        cv2.imwrite(f"pictures/{number}.png", picture(number, (40 + number, 64)))
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 6
    names: dict[str, object] = {}
    try:
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), names)
        assert [labels.shape for labels in names["maps"]] == [(40, 64), (41, 64), (42, 64)]  # type: ignore[attr-defined]
        assert names["logits"].shape == (11, *(side // 4 for side in names["segmenter"].info.size_hw))  # type: ignore[attr-defined]
    finally:
        names["segmenter"].close()  # type: ignore[attr-defined]


def test_confidence_is_the_softmax_of_interpolated_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (5, 6, 7)).astype(np.float32)
    for height, width in ((24, 28), (13, 50), (6, 7), (3, 4)):
        y, x = (np.clip((np.arange(full) + 0.5) * coarse / full - 0.5, 0, coarse - 1)
                for full, coarse in ((height, 6), (width, 7)))  # fmt: skip
        top, left = np.minimum(y.astype(int), 4), np.minimum(x.astype(int), 5)
        rows = logits[:, top] * (1 - (y - top))[:, None] + logits[:, top + 1] * (y - top)[:, None]
        full = rows[:, :, left] * (1 - (x - left)) + rows[:, :, left + 1] * (x - left)
        expected = (np.exp(full) / np.exp(full).sum(0)).max(0)
        np.testing.assert_allclose(confidence(logits, (height, width)), expected, rtol=2e-4)


def test_logits_are_the_callers_and_areas_add_up() -> None:
    with Segmenter(FakeEngine()) as segmenter:
        first = segmenter.logits(picture(0))
        kept = first.copy()
        labels = segmenter(picture(1))
        np.testing.assert_array_equal(first, kept)
        assert (first.dtype, first.shape) == (np.float32, (11, 16, 24))
        shares = segmenter.areas(labels)
        assert shares == {name: np.mean(labels == index) for index, name in enumerate(CAMVID11.names)}
        assert segmenter.areas(np.full((2, 2), CAMVID11.ignore_index, np.uint8))["sky"] == 0
        sure = segmenter.confidence(picture(1))
        assert (sure.shape, sure.dtype) == ((64, 96), np.float32)
        with pytest.raises(UsageError, match="areas need labels"):
            segmenter.areas(sure)


def test_a_list_of_pictures_keeps_the_engine_busy() -> None:
    pictures = [picture(seed, (64 + seed, 96)) for seed in range(7)]
    with Segmenter(FakeEngine()) as one, Segmenter(FlyingEngine(in_flight=3)) as segmenter:
        found = segmenter(pictures)
        assert [labels.shape for labels in found] == [image.shape[:2] for image in pictures]
        for labels, image in zip(found, pictures, strict=True):
            np.testing.assert_array_equal(labels, one(image))
        assert segmenter.engine.most == 3  # type: ignore[attr-defined]
        assert segmenter([]) == []
        with pytest.raises(UsageError, match="uint8 BGR"):
            segmenter([pictures[0], pictures[1][..., 0]])
        np.testing.assert_array_equal(segmenter(pictures[0]), found[0])  # no state was left behind


def test_a_list_that_loads_the_engine_loads_it_for_many_and_frees_it_when_one_fails() -> None:
    made: list[FakeEngine] = []
    with fake_segmenter(made, threads=4) as segmenter:
        segmenter([picture()] * 3)
        assert segmenter.info.in_flight == len(made) > 1
    with Segmenter(FakeEngine(fail_at=1, error=ValueError("broken"))) as segmenter:
        with pytest.raises(ValueError, match="broken"):
            segmenter([picture()] * 3)
        with pytest.raises(EngineError, match="no picture is in flight"):
            segmenter.collect()
        segmenter.engine.fail_at = None  # type: ignore[attr-defined]
        assert segmenter(picture()).shape == (64, 96)


def test_an_overlay_of_some_classes_with_a_legend() -> None:
    image, labels = np.full((240, 320, 3), 100, np.uint8), np.full((240, 320), 3, np.uint8)
    labels[:, 160:] = 8
    names = ["car", "sky"]
    drawn = rtseg.overlay(image, labels, CAMVID11, show=names)
    assert (drawn[:, :160] == 100).all()
    assert (drawn[:, 160:] != 100).any()
    np.testing.assert_array_equal(rtseg.overlay(image, labels, CAMVID11, show="car, sky"), drawn)
    with_legend = rtseg.overlay(image, labels, CAMVID11, show=names, legend=True)
    np.testing.assert_array_equal(with_legend[:, :160], drawn[:, :160])
    assert (with_legend != drawn).any()
    with pytest.raises(UsageError, match="did you mean car"):
        rtseg.overlay(image, labels, CAMVID11, show="cat")


@pytest.mark.slow  # it imports torch
def test_models_are_listed_also_once_the_package_of_that_name_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_card(name="tiny").save(tmp_path / "tiny.json")
    monkeypatch.setattr("rtseg.core.zoo.weights_folder", lambda: tmp_path)
    assert list(rtseg.models()) == ["tiny"]
    import_module("rtseg.models")
    assert rtseg.models()["tiny"].labels == CAMVID11


def test_several_ids_may_be_one_class(tmp_path: Path) -> None:
    """The example in docs/data.md; ids that are not listed are rejected."""
    page = (PAGE.parent / "data.md").read_text(encoding="utf-8")
    _, example = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    two = example["classes"]
    (tmp_path / "classes.json").write_text(json.dumps(example), encoding="utf-8")
    labels, masks = read_classes(tmp_path)
    assert labels.names == ("plants", "path")
    cv2.imwrite(str(tmp_path / "mask.png"), np.array([[3, 7, 1, 255]], np.uint8))
    assert masks.read(tmp_path / "mask.png").tolist() == [[0, 0, 1, 255]]
    for ids, message in (([3, 1], "1 is there twice"), ([], "an empty list"), ([3, "x"], "'x': it must be a whole")):
        write_classes(tmp_path, classes=[{**two[0], "id": ids}, two[1]])
        with pytest.raises(InputError, match=message):
            read_classes(tmp_path)
        assert json.loads((tmp_path / "classes.json").read_text())["classes"][0]["id"] == ids
