"""Within and between steps: waits, averages, dropout, several processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from camvid_tree import small_camvid
from training_runs import SCRIPT, TINY, config

from rtseg.core.labels import CAMVID11
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.models import build_model
from rtseg.training.averaging import decay_after
from rtseg.training.checkpoint import load_tree
from rtseg.training.run import train
from rtseg.training.task import SegmentationTask
from rtseg.training.watch import StepWatch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_camvid(tmp_path_factory, 8, 3)


SPLITS = {"split": "train", "holdouts": ("val",)}


def test_the_watch_counts_as_the_metric_does_and_keeps_the_first_loss_that_is_not_finite() -> None:
    torch.manual_seed(0)
    watch, matrix = StepWatch(CAMVID11), ConfusionMatrix(CAMVID11)
    for loss in (1.0, float("nan"), 2.0):
        logits, truth = torch.randn(2, 11, 6, 8), torch.randint(0, 12, (2, 6, 8))
        watch.update(logits, truth, torch.tensor(loss))
        matrix.update(logits.argmax(1).byte().numpy(), truth.byte().numpy())
        assert np.isnan(watch.miou)  # until `look` is called
    assert np.isnan(watch.look())
    assert watch.miou == pytest.approx(matrix.miou)
    watch.reset()
    assert watch.look() == 0


class _NoWait(torch.utils._python_dispatch.TorchDispatchMode):
    """Fails if the host would wait for the device's results."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique", "is_nonzero", "equal.default")
        if any(func.__name__.startswith(name) for name in waits):
            raise AssertionError(f"{func.__name__} makes the device wait")
        indexed = func.__name__.startswith("index.") and any(i is not None and i.dtype == torch.bool for i in args[1])
        assert not indexed, "picking pixels by a mask makes the device wait"
        return func(*args, **(kwargs or {}))


def test_a_training_step_waits_for_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, steps = SegmentationTask.training_step, []

    def watched(task: SegmentationTask, batch: Any, number: int) -> Any:
        with _NoWait():
            steps.append(number)
            return plain(task, batch, number)

    monkeypatch.setattr(SegmentationTask, "training_step", watched)
    train(config(root, tmp_path, epochs=1, lovasz=0.5, dice=0.5, boundary=1.0, ohem=0.5, **SPLITS))
    assert steps == [0, 1, 2, 3]


def test_the_average_follows_closely_at_first() -> None:
    assert [round(decay_after(step, 0.995), 3) for step in (1, 10, 100, 10_000)] == [0.182, 0.55, 0.918, 0.995]
    assert decay_after(100, 0.5) == 0.5


def test_a_short_run_keeps_weights_that_are_no_longer_those_of_the_start(root: Path, tmp_path: Path) -> None:
    """After eight steps the mean is near the current weights; with 0.995 alone it would be at the initial ones."""
    train(config(root, tmp_path, epochs=2, lr=0.01, **SPLITS))
    saved = load_tree(tmp_path / "last.ckpt")
    mean, reached = saved["state_dict"], saved["current_model_state"]
    torch.manual_seed(0)
    begun = build_model("enet", {"classes": 11}).state_dict()
    name = "section2.0.residual.0.weight"
    name = (
        name if name in begun else next(key for key, value in begun.items() if value.ndim == 4 and value.numel() > 99)
    )
    mean, reached, begun = mean[f"model.{name}"], reached[f"model.{name}"], begun[name]
    assert (mean - reached).norm() < 0.5 * (reached - begun).norm()


def test_each_batch_has_a_dropout_mask_of_its_own(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    plain = SegmentationTask.training_step

    def draw(task: SegmentationTask, batch: Any, number: int) -> Any:
        drawn.append(torch.rand(2).tolist())
        return plain(task, batch, number)

    monkeypatch.setattr(SegmentationTask, "training_step", draw)
    train(config(root, tmp_path / "one", epochs=2, accumulate=2, **SPLITS))
    assert len({tuple(pair) for pair in drawn}) == len(drawn) == 8
    before = list(drawn)
    train(config(root, tmp_path / "two", epochs=2, accumulate=2, **SPLITS))
    assert drawn[8:] == before


def test_two_processes_train_and_score_as_one_that_accumulates(root: Path, tmp_path: Path) -> None:
    """DDP over gloo: with the same batches and dropout, plain batch norm and SGD yield one process's parameters.

    The best weights are chosen by the whole holdout, whose three pictures two processes share.
    """
    same = {"optimizer": "sgd", "lr": 0.05, "epochs": 1, "schedule": "poly", **SPLITS}
    one = train(config(root, tmp_path / "one", accumulate=2, **same))
    fields = {**TINY, **same, "root": str(root), "output": str(tmp_path / "two"), "devices": 2}
    script = tmp_path / "train_two.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(fields)], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = load_tree(tmp_path / "two" / "last.ckpt"), load_tree(one / "last.ckpt")
    assert ours["global_step"] == theirs["global_step"] == 2
    for name, _ in build_model("enet", {}).named_parameters():
        np.testing.assert_allclose(ours["state_dict"][f"model.{name}"], theirs["state_dict"][f"model.{name}"],
                                   rtol=1e-4, atol=1e-5, err_msg=name)  # fmt: skip
    cards = [json.loads((folder / "best.json").read_text()) for folder in (tmp_path / "two", one)]
    assert [card["metrics"]["camvid/val"]["frames"] for card in cards] == [3, 3]
    kept = next(state for key, state in ours["callbacks"].items() if key.startswith("KeepBest"))
    assert kept["best"] == pytest.approx(cards[0]["metrics"]["camvid/val"]["miou"], abs=1e-4)
