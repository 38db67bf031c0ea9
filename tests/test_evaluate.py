import json
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from fakes import FakeEngine, fake_artifact, fake_network  # noqa: F401
from videos import make_video

from rtseg.apps import evaluate as app
from rtseg.core.errors import InputError, OutputError, UsageError
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.core.zoo import resolve, shipped
from rtseg.datasets import DATASETS, open_data
from rtseg.datasets.base import DataSet, Sample
from rtseg.engines import ENGINES, available
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.boundary import BoundaryF1
from rtseg.metrics.evaluate import evaluate
from rtseg.pictures.overlay import overlay
from rtseg.scenes import StreetScene


class Stripes(DataSet):
    """Two pictures: class i is drawn as blue value i, which the fake engine turns into label i."""

    name = "stripes"
    splits = ("val",)
    labels = CAMVID11
    size_hw = (64, 96)

    def __len__(self):
        return 2

    def sample(self, index):
        truth = np.zeros(self.size_hw, np.uint8)
        truth[:, 48:] = 3 + index
        image = np.repeat(truth[..., None], 3, 2)
        truth[:8] = CAMVID11.ignore_index  # the upper part is unlabelled
        return Sample(f"{index}", image, truth)


@dataclass(frozen=True)
class Picture:
    image: np.ndarray
    labels: np.ndarray


@pytest.fixture
def small_streets(monkeypatch):
    """`synthetic` shows small pictures, because optical flow between large ones is slow."""
    monkeypatch.setattr("rtseg.scenes.StreetScene", lambda size_hw, seed, fps: StreetScene((64, 96), seed, fps))


def test_every_known_pixel_counts():
    image = np.full((64, 96, 3), 3, np.uint8)
    truth = np.full((64, 96), 3, np.uint8)
    truth[:16] = 5
    truth[16:32] = CAMVID11.ignore_index
    matrix = evaluate(Segmenter(FakeEngine()), [Picture(image, truth)] * 2, CAMVID11)
    assert (matrix.frames, matrix.counts.sum()) == (2, 2 * 48 * 96)
    assert matrix.counts[3, 3] == 2 * 32 * 96
    assert matrix.counts[5, 3] == 2 * 16 * 96
    assert matrix.miou == pytest.approx((2 / 3 + 0) / 2)


def test_labels_are_compared_at_the_size_of_the_picture():
    image = np.full((50, 70, 3), 4, np.uint8)
    matrix = evaluate(Segmenter(FakeEngine()), [Picture(image, np.full((50, 70), 4, np.uint8))], CAMVID11)
    assert matrix.pixel_accuracy == 1.0


def test_other_classes_are_told():
    labels = LabelSet("mine", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(UsageError, match="fake has the classes of camvid11, the data those of mine"):
        evaluate(Segmenter(FakeEngine()), [], labels)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_engine_gets_the_figures_of_torch(name, monkeypatch):
    """Equal confusion matrices, except for at most 1 pixel in 1000 whose best two classes are nearly tied."""
    monkeypatch.setattr("rtseg.datasets.scenes._SEEDS", {"val": (0, 1)})
    data = open_data("scenes", None, "val")
    figures = {}
    for engine in (engine for engine in ENGINES if available(engine)):
        boundary = BoundaryF1(data.labels)
        with Segmenter(RunSpec(name, engine, "fp32")) as segmenter:
            figures[engine] = evaluate(segmenter, data, data.labels, boundary), boundary
            assert segmenter.info.engine == engine
    (reference, outline), others = figures.pop("torch"), figures
    assert others
    assert np.count_nonzero(reference.counts.sum(0)) > 2  # else the comparison is meaningless
    for matrix, boundary in others.values():
        assert np.array_equal(matrix.counts.sum(1), reference.counts.sum(1))
        assert np.abs(matrix.counts - reference.counts).sum() / 2 <= reference.counts.sum() / 1000
        assert matrix.miou == pytest.approx(reference.miou, abs=1e-3)
        assert boundary.mean == pytest.approx(outline.mean, abs=5e-3)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _network(self, fake_network, monkeypatch):  # noqa: F811
        monkeypatch.setitem(DATASETS._entries, "stripes", "test_evaluate:Stripes")

    def test_it_draws_pictures_beside_truth_and_prediction(self, tmp_path):
        data, out = open_data("stripes", None, "val"), tmp_path / "drawn.png"
        app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", threads=1, picture=out))
        drawn = cv2.imread(str(out))
        height, width = data.sample(0).image.shape[:2]
        assert drawn.shape == (2 * height, 3 * width, 3)  # of two samples
        for row, sample in enumerate(data):
            picture, truth, predicted = np.split(drawn[row * height : (row + 1) * height], 3, axis=1)
            assert np.array_equal(picture, sample.image)
            assert np.array_equal(truth, overlay(sample.image, sample.labels, data.labels, opacity=0.6))
            assert (predicted[8:] == truth[8:]).all(2).mean() > 0.9
            assert not (predicted[:8] == truth[:8]).all(2).any()  # labelled where the truth is unlabelled

    def test_a_picture_is_of_a_data_set_and_has_a_kind(self, tmp_path):
        with pytest.raises(UsageError, match="give --data or --root"):
            app.EvalOptions(stability="a.mp4", picture=tmp_path / "drawn.png")
        with pytest.raises(OutputError, match=r"\.txt is not a picture format"):
            app.command(app.EvalOptions(model="fake", data="stripes", picture=tmp_path / "drawn.txt"))

    def test_it_prints_and_writes_the_figures(self, tmp_path, capsys):
        out = tmp_path / "figures.json"
        app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", threads=1, json=out))
        figures = json.loads(out.read_text())
        assert figures["frames"] == 2
        assert figures["iou"]["sky"] > 0.9
        assert figures["iou"]["car"] is None
        assert 0.9 < figures["miou"] <= 1
        expected = {
            "model": "fake", "engine": "fake", "runtime": "fake 1", "device": "CPU", "precision": "fp32",
            "size": [64, 96], "threads": 1, "data": "stripes", "split": "val",
            "sha256": fake_artifact().card.files["fp32"].sha256,
        }  # fmt: skip
        assert {key: figures[key] for key in expected} == expected
        printed = capsys.readouterr().out
        assert f"mIoU {figures['miou']:.4f}" in printed
        assert "does not occur" in printed

    def test_boundaries_are_scored_too(self, tmp_path, capsys):
        out = tmp_path / "figures.json"
        app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", threads=1, json=out))
        figures = json.loads(out.read_text())
        assert figures["boundary_f1"] == 1  # the one border is met within a pixel
        assert figures["boundary_f1_by_class"]["sky"] == 1
        assert figures["boundary_f1_by_class"]["car"] is None
        assert figures["boundary_tolerance"] == 0.0075
        assert "test_time" not in figures
        assert "boundary F1 1.0000" in capsys.readouterr().out

    @pytest.mark.parametrize("more", [{"scales": "9"}, {"stability": "missing.mp4"}])
    def test_what_comes_second_is_checked_first(self, monkeypatch, more):
        monkeypatch.setattr(app, "score_data", lambda *_: pytest.fail("it scores"))
        with pytest.raises((UsageError, InputError)):
            app.command(app.EvalOptions(model="fake", data="stripes", **more))

    def test_test_time_averaging_is_reported_apart(self, tmp_path, capsys):
        plain, averaged = (
            app.score(app.EvalOptions(model="fake", data="stripes", size="64x96", threads=1, **more))
            for more in ({}, {"flip": True, "scales": "0.5,1"})
        )
        own = averaged.pop("test_time")
        assert averaged == plain
        assert (own["flip"], own["scales"], own["sizes"]) == (True, [0.5, 1.0], [[32, 64], [64, 96]])
        assert (own["frames"], set(own["iou"])) == (2, set(plain["iou"]))
        assert own["miou"] == 1
        app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", flip=True))
        assert "test-time average over scales 1 and mirror images, not real-time: mIoU" in capsys.readouterr().out

    def test_stability_needs_no_labels(self, small_streets, tmp_path, capsys):
        out = tmp_path / "figures.json"
        app.command(app.EvalOptions(model="fake", stability="synthetic", frames=4, size="64x96", json=out))
        figures = json.loads(out.read_text())
        assert "miou" not in figures
        assert (figures["model"], figures["engine"], figures["size"]) == ("fake", "fake", [64, 96])
        measured = figures["stability"]
        assert (measured["source"], measured["frames"], measured["pairs"]) == ("synthetic:0", 4, 3)
        assert 0 < measured["flip_share"] < 1
        assert 0 < measured["still_share"] < 1
        assert "of still pixels flip" in capsys.readouterr().out

    @pytest.mark.slow
    def test_labels_averaged_over_time_are_scored_beside_the_plain_ones(self, small_streets, tmp_path, capsys):
        out = tmp_path / "figures.json"
        options = {"model": "fake", "size": "64x96", "stability": "synthetic", "frames": 4, "json": out}
        app.command(app.EvalOptions(**options))
        plain = json.loads(out.read_text())["stability"]
        assert 0 < plain["consistency"] < 1
        assert "steady" not in plain
        app.command(app.EvalOptions(**options, data="stripes", steady=True))
        figures = json.loads(out.read_text())
        steady = figures["stability"].pop("steady")
        assert figures["stability"] == plain  # from the same run of the network
        assert (steady["frames"], steady["pairs"], steady["still_share"]) == (4, 3, plain["still_share"])
        assert steady["flip_share"] < plain["flip_share"]
        assert steady["consistency"] > plain["consistency"]
        # the two pictures differ by one grey level, no change, so the second has the labels of the first: 0 is right
        # everywhere, 3 is found twice where it is once, and 4 never
        assert figures["steady"]["miou"] == pytest.approx((1 + 1 / 2 + 0) / 3, abs=0.01)
        assert "ece" not in figures["steady"]
        said = " ".join(capsys.readouterr().out.split())
        assert "averaged over time: mIoU" in said
        assert f"averaged over time: {steady['flip_share']:.3f} flip" in said

    def test_stability_may_come_with_scores(self, tmp_path):
        video = make_video(tmp_path / "drive.mp4", 6, (64, 96), 30)
        figures = app.score(app.EvalOptions(model="fake", data="stripes", stability=str(video)))
        assert figures["frames"] == 2
        assert figures["stability"]["pairs"] == 5  # every frame of a file
        assert figures["size"] == figures["stability"]["size"] == [128, 192]

    @pytest.mark.parametrize(
        ("options", "error", "told"),
        [
            ({"data": "stripe"}, UsageError, "stripes"),
            ({"data": "stripes", "split": "test"}, UsageError, "val"),
            ({"data": "camvid"}, UsageError, "--root"),
            ({"data": "stripes", "engine": "fke"}, UsageError, "fake"),
            ({"data": "stripes", "precision": "fp8"}, UsageError, "fp16"),
            ({"data": "stripes", "size": "60x96"}, UsageError, "64x96"),
            ({"data": "stripes", "scales": "1,9"}, UsageError, "from 0.25 to 4"),
            ({"data": "stripes", "scales": "1;2"}, UsageError, "is not a list of factors"),
            ({"data": "stripes", "boundary_tolerance": 2.0}, UsageError, "give 0 to 0.1"),
            ({"stability": "nowhere.mp4"}, InputError, "no such file: nowhere.mp4"),
        ],
    )
    def test_what_does_not_fit_is_told(self, options, error, told):
        with pytest.raises(error, match=told):
            app.command(app.EvalOptions(model="fake", **options))

    def test_stability_of_one_picture_is_told(self, tmp_path):
        cv2.imwrite(str(tmp_path / "one.png"), np.zeros((64, 96, 3), np.uint8))
        with pytest.raises(UsageError, match="needs a video"):
            app.command(app.EvalOptions(model="fake", stability=str(tmp_path / "one.png")))
        with pytest.raises(UsageError, match="--frames 1 is not allowed"):
            app.EvalOptions(model="fake", stability="synthetic", frames=1)

    def test_options_without_effect_are_told(self):
        with pytest.raises(UsageError, match="--frames is for --stability SOURCE"):
            app.EvalOptions(model="fake", frames=9)
        with pytest.raises(UsageError, match="give --data or --root too"):
            app.EvalOptions(model="fake", stability="synthetic", flip=True)

    def test_a_folder_without_the_data_is_told(self, tmp_path):
        with pytest.raises(InputError, match=r"val\.txt"):
            app.command(app.EvalOptions(model="fake", root=tmp_path))


@pytest.mark.usefixtures("fake_network")
def test_figures_are_told_though_the_card_cannot_be_written(monkeypatch, capsys, tmp_path):
    """They were lost after minutes of scoring."""
    monkeypatch.setitem(DATASETS._entries, "stripes", "test_evaluate:Stripes")

    def full(card, path):
        raise OutputError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("rtseg.core.card.Card.save", full)
    with pytest.raises(OutputError, match="No space left"):
        app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", json=tmp_path / "a.json", enter=True))
    assert "mIoU 1.0000" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["miou"] == 1


@pytest.mark.usefixtures("fake_network")
def test_figures_enter_the_card_unless_the_network_was_trained_on_the_pictures(monkeypatch):
    monkeypatch.setitem(DATASETS._entries, "stripes", "test_evaluate:Stripes")
    app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", enter=True))
    entered = resolve("fake").card.figures()["stripes/val"]
    assert entered["miou"] == pytest.approx(1.0)
    assert {"boundary_f1", "iou", "pixel_accuracy", "frames", "ece"} <= set(entered)
    assert entered["temperature"] == 1
    assert "camvid/val" in resolve("fake").card.figures()  # earlier figures stay
    card = resolve("fake").card.with_figures("fp32", {"stripes/val": {**entered, "sizes": {"32x48": 0.5}}})
    card.save(resolve("fake").folder / "fake.json")
    app.command(app.EvalOptions(model="fake", data="stripes", size="64x96", enter=True))  # again, like benchmarks
    assert resolve("fake").card.figures()["stripes/val"]["sizes"] == {"32x48": 0.5}
    recipe = {"data": "camvid", "split": "fit", "init": {"recipe": {"data": "stripes", "split": "val"}}}
    replace(card, recipe=recipe).save(resolve("fake").folder / "fake.json")
    with pytest.raises(UsageError, match="trained on stripes/val"):
        app.command(app.EvalOptions(model="fake", data="stripes", enter=True))
    with pytest.raises(UsageError, match="fp32"):
        app.EvalOptions(model="fake", data="stripes", enter=True, precision="int8")
