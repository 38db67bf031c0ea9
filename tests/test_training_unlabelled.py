"""Unlabelled pictures: which are gathered, in which order they come, and what is learned from them."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny import lively
from torch.nn import functional
from training_runs import SCRIPT, TINY, config
from videos import make_video, picture

from rtseg.core.errors import InputError, UsageError
from rtseg.datasets import open_data
from rtseg.models.deploy import normalise
from rtseg.scenes import StreetScene
from rtseg.training.checkpoint import load_tree
from rtseg.training.config import TrainConfig
from rtseg.training.data import training_loader
from rtseg.training.run import train
from rtseg.training.task import SegmentationTask
from rtseg.training.unlabelled.consistency import consistency_loss, pseudo_labels
from rtseg.training.unlabelled.pool import gather
from rtseg.training.unlabelled.views import UnlabelledViews, cut

pytestmark = pytest.mark.slow

SPLITS = {"split": "train", "holdouts": ("val",)}


def make_pictures(folder: Path, names: list[str]) -> Path:
    rng = np.random.default_rng(5)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (48, 64, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("pool"), [f"day/{index}.png" for index in range(5)])


# --- gathering


def test_pictures_of_any_depth_and_frames_of_videos_are_gathered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_pictures(tmp_path / "mine", ["b.png", "a/10.jpg", "a/9.jpg", ".hidden.png"])
    (folder / "notes.txt").write_text("no picture")
    make_video(folder / "a" / "drive.mp4", frames=25, rate=10)
    with caplog.at_level(logging.WARNING):
        pool = gather(folder, 1.0, tmp_path / "run", [])
    assert pool.names == ("b.png", "a/9.jpg", "a/10.jpg", "a/drive.mp4#0", "a/drive.mp4#10", "a/drive.mp4#20")
    assert pool.frames == 3
    made = [picture(number, (48, 64)).astype(int) for number in range(25)]
    found = [np.argmin([np.abs(cv2.imread(str(path)) - image).mean() for image in made]) for path in pool.paths[3:]]
    assert found == [0, 10, 20]
    assert "3 pictures without labels and from 3 frames of 1 videos" in caplog.text
    assert len(gather(folder, 0.5, tmp_path / "run", []).paths) == 3 + 5


def test_videos_are_read_once_and_again_where_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    make_video(folder / "drive.mp4", frames=12, rate=4)
    plain, written = Path.write_bytes, []

    def stop_at_third(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        return plain(path, data)

    with monkeypatch.context() as stopped:
        stopped.setattr(Path, "write_bytes", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            gather(folder, 1.0, tmp_path / "run", [])
    whole = gather(folder, 1.0, tmp_path / "run", [])
    assert whole.names == ("drive.mp4#0", "drive.mp4#4", "drive.mp4#8")
    monkeypatch.setattr("rtseg.training.unlabelled.pool.VideoSource", None)  # must not be opened again
    assert gather(folder, 1.0, tmp_path / "run", []) == whole


def test_the_runs_own_pictures_are_left_out(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path, ["a.png", "run/samples_0001.png"])
    assert gather(folder, 1.0, tmp_path / "run", []).names == ("a.png",)
    assert gather(folder / "run", 1.0, tmp_path, []).names == ("samples_0001.png",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is not a folder: give one that holds pictures or videos"),
        (lambda folder: folder.mkdir(), "holds no picture and no video"),
        (lambda folder: (make_pictures(folder, ["sub/.a.png"]), (folder / "a.txt").touch()), "holds no picture"),
        (lambda folder: (make_pictures(folder, ["a.png"]), (folder / "b.png").write_bytes(b"no")), r"b\.png .*out of"),
        (lambda folder: (make_pictures(folder, ["a.png"]), (folder / "c.mp4").write_bytes(b"no")), r"c\.mp4.*damaged"),
    ],
    ids=["missing", "empty", "nothing to read", "unreadable picture", "unreadable video"],
)
def test_a_folder_that_cannot_be_learned_from_is_told_in_a_line(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "mine")
    with pytest.raises(InputError, match=message) as caught:
        gather(tmp_path / "mine", 1.0, tmp_path / "run", [])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_pictures_of_a_holdout_are_refused_whatever_their_size_and_suffix(camvid: Path, tmp_path: Path) -> None:
    held = open_data("camvid", camvid, "val")
    name = Path(held.picture_names()[1]).stem
    smooth = cv2.resize(held.sample(1).image, (128, 96), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "mine").mkdir()
    cv2.imwrite(str(tmp_path / "mine" / f"{name}.bmp"), smooth)
    with pytest.raises(UsageError, match=f"{name}.bmp is a picture of the holdout val.*out of --unlabelled"):
        train(config(camvid, tmp_path / "run", unlabelled=tmp_path / "mine", **SPLITS))
    make_pictures(tmp_path / "other", [f"{name}.png"])  # the same name is not enough to be the same picture
    assert len(gather(tmp_path / "other", 1.0, tmp_path / "run", [held]).paths) == 1


@pytest.mark.parametrize("field", ["unlabelled_every", "unlabelled_confidence", "unlabelled_weight"])
def test_figures_are_checked(field: str) -> None:
    with pytest.raises(UsageError, match=f"{field} is -1.0: allowed is"):
        TrainConfig(model="enet", **{field: -1.0})  # type: ignore[arg-type]


# --- the views and their order


def test_every_picture_comes_once_before_one_comes_again(tmp_path: Path) -> None:
    views = UnlabelledViews(config(tmp_path, tmp_path), [Path(str(index)) for index in range(5)])
    rounds = [[views.picture(5 * number + place).name for place in range(5)] for number in range(3)]
    assert all(sorted(order) == ["0", "1", "2", "3", "4"] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


def test_views_follow_from_seed_and_turn_and_share_one_crop(tmp_path: Path, pictures: Path) -> None:
    paths = gather(pictures, 1.0, tmp_path, []).paths
    one, two = (UnlabelledViews(config(tmp_path, tmp_path, seed=3), paths) for _ in range(2))
    two.take(9)  # earlier reads must not matter
    for a, b in zip(one.take(4), two.take(4), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.take(4)[0], one.take(5)[0])
    views, known, pasted = one.take(4)
    assert (views.shape, views.dtype) == ((3, 32, 32, 3), torch.uint8)
    assert (known.shape, known.dtype, pasted.shape, pasted.dtype) == ((32, 32), torch.bool, (2, 32, 32), torch.bool)
    alike, differing = [], 0
    for turn in range(20):
        views, known, _ = one.take(turn)
        weak, *strong = (view.float()[known] for view in views)
        alike += [float(torch.corrcoef(torch.stack([weak.flatten(), view.flatten()]))[0, 1]) for view in strong]
        differing += not torch.equal(views[1], views[2])  # sometimes nothing is drawn for either
    assert differing >= 15
    assert np.median(alike) > 0.8  # noise: another crop would give 0


def test_padding_of_the_weak_view_is_known(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "white.png"), np.full((16, 32, 3), 255, np.uint8))
    views, known, _ = UnlabelledViews(config(tmp_path, tmp_path), [tmp_path / "white.png"]).take(0)
    assert not known.all()
    assert known.any()
    assert (views[0][known] > 200).float().mean() > 0.9
    assert (views[0][~known] < 200).float().mean() > 0.9


def test_cuts_are_rectangles_of_the_papers_size_in_every_second_view() -> None:
    rng = np.random.default_rng(0)
    cuts = [cut(rng, (80, 100)) for _ in range(200)]
    made = [area for area in cuts if area.any()]
    assert 70 < len(made) < 130
    for area in made:
        rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
        assert area[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert area.sum() == len(rows) * len(columns)
        assert 0.01 < area.mean() < 0.42


def test_samples_bring_unlabelled_ones_along_whoever_reads_them(camvid: Path, tmp_path: Path, pictures: Path) -> None:
    data, paths = open_data("camvid", camvid, "train"), gather(pictures, 1.0, tmp_path, []).paths
    batches = []
    for workers in (0, 2):
        given = config(camvid, tmp_path, workers=workers)
        loader = training_loader(given, data, 0, UnlabelledViews(given, paths))
        loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
        batches.append(list(loader))
        plain = training_loader(given, data)
        plain.sampler.set_epoch(2)  # type: ignore[attr-defined]
        for (image, labels, *more), (alone, its_labels) in zip(batches[-1], plain, strict=True):
            assert torch.equal(image, alone)  # labelled samples are the same as without
            assert torch.equal(labels, its_labels)
            assert [tuple(tensor.shape) for tensor in more] == [(2, 3, 32, 32, 3), (2, 32, 32), (2, 2, 32, 32)]
    for one, two in zip(*batches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# --- the loss


def batch(n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    views = torch.randint(0, 256, (n, 3, 32, 32, 3), dtype=torch.uint8)
    return views, torch.ones(n, 32, 32, dtype=torch.bool), torch.zeros(n, 2, 32, 32, dtype=torch.bool)


def threshold(model: Any, images: torch.Tensor, share: float) -> float:
    """The confidence that the given share of the pixels exceeds."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        sure = float(pseudo_labels(model, images, middle)[1].float().mean())
        low, high = (middle, high) if sure > share else (low, middle)
    return low


def test_labels_below_the_confidence_do_not_count() -> None:
    model, weights = lively("tiny", seed=2).train(), torch.rand(11) + 0.5
    views, known, pasted = batch()
    confidence = threshold(model, views[:, 0], 0.4)
    labels, sure = pseudo_labels(model, views[:, 0], confidence)
    assert 0.2 < sure.float().mean() < 0.6
    seen: list[torch.Tensor] = []

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(model(x))
        return (seen[-1],)

    loss, share = consistency_loss(model, forward, views, known, pasted, weights, confidence)
    (logits,) = seen
    assert logits.shape[0] == 6  # two strong views of each
    truth, counted = torch.cat([labels, labels]), torch.cat([sure, sure])
    assert share == pytest.approx(float(counted.float().mean()))
    masked = truth.masked_fill(~counted, -100)
    expected = functional.cross_entropy(logits, masked, weights, reduction="sum") / weights[truth].sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient.abs().sum(1)[~counted].any()
    assert (gradient.abs().sum(1)[counted] > 0).all()


def test_nothing_is_learned_where_nothing_is_sure_or_all_is_padding() -> None:
    model = lively("tiny", seed=2).train()
    views, known, pasted = batch()
    for confidence, there in ((1.1, known), (0.0, ~known)):
        model.zero_grad()
        loss, share = consistency_loss(model, lambda x: (model(x),), views, there, pasted, torch.ones(11), confidence)
        loss.backward()
        assert (loss.item(), share.item()) == (0, 0)
        assert not any(p.grad.any() for p in model.parameters())


def test_gradients_come_through_the_strong_views_alone() -> None:
    """The same as with given labels; the weak view is labelled in evaluation mode and changes no statistics."""
    model, weights = lively("tiny", seed=2).train(), torch.ones(11)
    views, known, pasted = batch()
    before = {name: value.clone() for name, value in model.named_buffers()}
    labels, sure = pseudo_labels(model, views[:, 0], 0.0)
    assert sure.all()
    assert model.training
    assert not labels.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())

    calls = []

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(x)
        return (model(x),)

    consistency_loss(model, forward, views, known, pasted, weights, 0.0)[0].backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    functional.cross_entropy(model(calls[0]), torch.cat([labels, labels]), weights).backward()
    assert len(calls) == 1
    for gradient, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, p.grad)


def test_a_piece_of_a_neighbour_brings_its_labels_and_its_doubts() -> None:
    model = lively("tiny", seed=2).train()
    views, known, pasted = batch()
    pasted[:, 0, 8:24, 8:24] = True  # first strong view: a piece of the previous picture; second: of the next
    pasted[:, 1, :16] = True
    known[2] = False
    labels, _ = pseudo_labels(model, views[:, 0], 0.0)
    seen: list[torch.Tensor] = []

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.extend((x, logits := torch.zeros(6, 11, 16, 16, requires_grad=True)))
        return (logits,)

    loss, _ = consistency_loss(model, forward, views, known, pasted, torch.ones(11), 0.0)
    x, logits = seen
    truth, valid = torch.cat([labels, labels]).clone(), torch.ones(6, 16, 16, dtype=torch.bool)
    valid[[2, 5]] = False
    for number in range(3):
        for place, source, area in ((number, number - 1, (slice(4, 12), slice(4, 12))),
                                    (3 + number, (number + 1) % 3, (slice(0, 8), slice(None)))):  # fmt: skip
            truth[place][area] = labels[source][area]
            valid[place][area] = source % 3 != 2
    expected = torch.autograd.grad(functional.cross_entropy(logits, truth.masked_fill(~valid, -100)), logits)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], expected)
    alone = normalise(views[:, 1], model.normalisation)
    assert torch.equal(x[0, :, 0, 0], alone[0, :, 0, 0])
    assert torch.equal(x[0, :, 8:24, 8:24], alone[2, :, 8:24, 8:24])


# --- runs


def test_a_run_on_street_scenes_learns_from_pictures_and_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.datasets.scenes._SEEDS", {"train": (1000, 2), "val": (0, 1)})
    for seed in range(3):
        (tmp_path / "mine").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "mine" / f"street{seed}.png"), StreetScene((64, 96), seed=seed).render(0)[0])
    make_video(tmp_path / "mine" / "drive.mp4", frames=8, rate=4)
    folder = train(config(tmp_path, tmp_path / "run", data="scenes", scenes=None, epochs=2,
                          unlabelled=tmp_path / "mine", unlabelled_confidence=0.1))  # fmt: skip
    recipe = json.loads((folder / "best.json").read_text())["recipe"]
    assert (recipe["unlabelled"]["pictures"], recipe["unlabelled"]["frames"]) == (3, 2)
    assert str(tmp_path) not in json.dumps(recipe)
    assert len(list((folder / "unlabelled").rglob("*.jpg"))) == 2
    rows = (folder / "curves" / "version_0" / "metrics.csv").read_text().splitlines()
    assert "sure_share" in rows[0].split(",")


def test_the_term_changes_the_weights_and_zero_weight_does_not(camvid: Path, tmp_path: Path, pictures: Path) -> None:
    """In the first step, before the strong views' batch statistics make a difference."""
    given = {"epochs": 1, "batch_size": 4, "ema": 0.0, "unlabelled_confidence": 0.0, "unlabelled": pictures, **SPLITS}
    weights = []
    for name, changes in (("alone", {"unlabelled": None}), ("unweighted", {"unlabelled_weight": 0.0}), ("term", {})):
        folder = train(config(camvid, tmp_path / name, **{**given, **changes}))
        weights.append(load_tree(folder / "last.ckpt")["state_dict"]["model.classifier.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_run_ends_in_the_same_bits(
    camvid: Path, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    options = {"epochs": 3, "workers": workers, "deterministic": True, "validate_every": 3, "unlabelled": pictures,
               "unlabelled_confidence": 0.2, **SPLITS}  # fmt: skip
    plain = SegmentationTask.training_step

    def step_or_stop(task: SegmentationTask, pair: Any, number: int) -> Any:
        if (task.current_epoch, number) == (1, 1):
            raise KeyboardInterrupt
        return plain(task, pair, number)

    whole = train(config(camvid, tmp_path / "whole", **options))
    with monkeypatch.context() as stopped:
        stopped.setattr(SegmentationTask, "training_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(config(camvid, tmp_path / "stopped", **options))
    train(config(camvid, tmp_path / "stopped", **options))
    ours, theirs = (load_tree(folder / "last.ckpt") for folder in (tmp_path / "stopped", whole))
    for state in ("state_dict", "current_model_state"):
        for name, value in theirs[state].items():
            assert torch.equal(ours[state][name], value), name


def test_a_run_goes_on_only_with_the_pictures_it_was_begun_with(camvid: Path, tmp_path: Path, pictures: Path) -> None:
    train(config(camvid, tmp_path / "run", epochs=1, unlabelled=pictures, **SPLITS))
    fewer = make_pictures(tmp_path / "fewer", ["day/0.png"])
    for other in (fewer, None):
        with pytest.raises(UsageError, match=r"begun with another unlabelled \(5 pictures, 0 frames, .*now"):
            train(config(camvid, tmp_path / "run", epochs=1, unlabelled=other, **SPLITS))


def test_two_processes_share_the_pictures(camvid: Path, tmp_path: Path, pictures: Path) -> None:
    """Each has its own labelled and unlabelled samples, and all end with the same weights."""
    fields = {**TINY, **SPLITS, "epochs": 1, "root": str(camvid), "output": str(tmp_path / "two"), "devices": 2,
              "unlabelled_confidence": 0.1}  # fmt: skip
    script = tmp_path / "train_two.py"
    script.write_text(SCRIPT.replace("train(Train", f"fields['unlabelled'] = Path({str(pictures)!r})\ntrain(Train"))
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(fields)], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_tree(tmp_path / "two" / "last.ckpt")["global_step"] == 1
    taken = []
    data = open_data("camvid", camvid, "train")
    for rank in (0, 1):
        given = config(camvid, tmp_path, devices=2)
        views = UnlabelledViews(given, gather(pictures, 1.0, tmp_path, []).paths)
        taken.append(list(training_loader(given, data, rank, views)))
    assert not torch.equal(taken[0][0][2], taken[1][0][2])
