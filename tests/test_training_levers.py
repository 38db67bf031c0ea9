"""Options of a run: how fast the trunk learns, which weights are kept, the size of training pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from camvid_tree import small_camvid
from tiny import SMALL, lively
from training_runs import config

from rtseg.core.errors import UsageError
from rtseg.training.checkpoint import load_tree, save_tree
from rtseg.training.config import TrainConfig
from rtseg.training.optimise import make_optimizer, make_schedule, parameter_groups
from rtseg.training.report import half
from rtseg.training.run import train
from rtseg.training.summary import parting
from rtseg.training.task import SegmentationTask

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_camvid(tmp_path_factory, 4, 3)


SPLITS = {"split": "train", "holdouts": ("val",)}


@pytest.mark.parametrize("schedule", ["one-cycle", "poly"])
def test_the_trunk_learns_at_its_share_of_rate_and_decay(schedule: str) -> None:
    model = lively("pspnet", SMALL["pspnet"])
    trunk = {id(p) for module in model.trunk() for p in module.parameters()}
    given = TrainConfig(model="pspnet", lr=0.01, weight_decay=0.02, trunk_factor=0.25, schedule=schedule)  # type: ignore[arg-type]
    optimizer = make_optimizer(given, parameter_groups(given, model, model))
    scheduler = make_schedule(given, optimizer, 50)
    peaks = [0.0] * len(optimizer.param_groups)
    for _ in range(50):
        peaks = [max(peak, group["lr"]) for peak, group in zip(peaks, optimizer.param_groups, strict=True)]
        optimizer.step()
        scheduler.step()
    seen = []
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        factor = 0.25 if id(group["params"][0]) in trunk else 1.0
        assert peak == pytest.approx(0.01 * factor, rel=1e-3)
        for p in group["params"]:
            assert (id(p) in trunk) == (factor == 0.25)
            assert group["weight_decay"] == (0.02 * factor if p.ndim > 1 else 0)
        seen += [id(p) for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())


def test_without_a_factor_the_groups_are_those_of_all_parameters() -> None:
    model = lively("pspnet", SMALL["pspnet"])
    decayed, plain = parameter_groups(TrainConfig(model="pspnet"), model, model)
    assert [id(p) for p in decayed["params"]] == [id(p) for p in model.parameters() if p.ndim > 1]
    assert (decayed["weight_decay"], plain["weight_decay"], decayed["lr"], plain["lr"]) == (0.02, 0.0, 2e-3, 2e-3)


def test_a_network_without_a_trunk_has_no_trunk_factor(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"enet has no trunk .*: leave --trunk-factor 0\.25 out"):
        train(config(root, tmp_path, trunk_factor=0.25, **SPLITS))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_which_weights_stay(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str) -> None:
    """The score falls from epoch to epoch, also over a resume: best keeps the first epoch, last the last."""
    monkeypatch.setattr(SegmentationTask, "holdout_miou", property(lambda task: 0.5 / (task.current_epoch + 1)))
    plain, given = SegmentationTask.on_train_epoch_start, config(root, tmp_path, epochs=3, keep=keep, **SPLITS)

    def start_or_stop(task: SegmentationTask) -> None:
        if task.current_epoch == 2:
            raise KeyboardInterrupt
        plain(task)

    with monkeypatch.context() as stopped:
        stopped.setattr(SegmentationTask, "on_train_epoch_start", start_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(given)
    train(given)
    card = json.loads((tmp_path / "best.json").read_text())
    assert card["recipe"]["epochs_done"] == (3 if keep == "last" else 1)
    assert card["recipe"]["keep"] == keep
    kept, last = load_tree(tmp_path / "best.safetensors"), load_tree(tmp_path / "last.ckpt")["state_dict"]
    same = all(torch.equal(value, half(last[f"model.{name}"])) for name, value in kept.items())
    assert same == (keep == "last")  # the checkpoint's state_dict holds the averaged weights


def test_checkpoints_are_written_every_so_many_epochs_and_at_the_end(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    plain = SegmentationTask.on_save_checkpoint
    monkeypatch.setattr(
        SegmentationTask, "on_save_checkpoint",
        lambda task, checkpoint: (written.append(task.current_epoch + 1), plain(task, checkpoint)),
    )  # fmt: skip
    train(config(root, tmp_path, epochs=5, checkpoint_every=2, validate_every=5, **SPLITS))
    assert written == [2, 4, 5]
    train(config(root, tmp_path, epochs=5, checkpoint_every=3, validate_every=5, **SPLITS))  # counts as the same run


def test_the_card_and_the_scores_follow_the_training_size(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = set()

    def predict(task: SegmentationTask, image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        sizes.add(size_hw)
        return np.zeros(image.shape[:2], np.uint8)

    monkeypatch.setattr(SegmentationTask, "predict", predict)
    train(config(root, tmp_path, epochs=1, train_size="72x96", dice=0.5, lovasz=0.5, light=0.5, **SPLITS))
    card = json.loads((tmp_path / "best.json").read_text())
    assert card["train_size"] == [72, 96]
    assert sizes == {(72, 96)}
    assert (card["recipe"]["dice"], card["recipe"]["light"], card["recipe"]["train_size"]) == (0.5, 0.5, "72x96")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"train_size": "big"}, "HEIGHTxWIDTH"), ({"light": 1.5}, "light is 1.5: allowed is 0 to 1"),
     ({"trunk_factor": -1.0}, "trunk_factor is -1.0"), ({"checkpoint_every": 0}, "checkpoint_every is 0"),
     ({"dice": -1.0}, "dice is -1.0")],
)  # fmt: skip
def test_levers_check_themselves(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(model="enet", **changes)  # type: ignore[arg-type]


def test_a_run_begun_before_an_option_was_there_goes_on_with_its_default(root: Path, tmp_path: Path) -> None:
    last = train(config(root, tmp_path, epochs=1, **SPLITS)) / "last.ckpt"
    saved = load_tree(last)
    for name in ("dice", "keep", "light", "train_size", "trunk_factor"):
        del saved["settings"][name]
    save_tree(saved, last)
    train(config(root, tmp_path, epochs=1, **SPLITS))
    with pytest.raises(UsageError, match=r"another dice \(0.0, now 0.5\)"):
        train(config(root, tmp_path, epochs=1, dice=0.5, **SPLITS))


def test_a_run_whose_figures_part_says_so() -> None:
    line = parting({"train_miou": [(1, 0.2), (40, 0.68)], "holdout_miou": [(40, 0.17)]})
    assert line is not None
    assert "0.68" in line
    assert "0.17" in line
    assert parting({"train_miou": [(40, 0.68)], "holdout_miou": [(40, 0.6)]}) is None
    assert parting({}) is None
