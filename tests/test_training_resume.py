"""A resumed run ends as if it had not been stopped."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from camvid_tree import small_camvid
from folder_tree import make_folder
from training_runs import config, losses, stopped, wait_for_file

from rtseg.core.errors import InputError, OutputError, UsageError
from rtseg.datasets import open_data
from rtseg.training.checkpoint import load_tree
from rtseg.training.data import TrainingSet, training_loader
from rtseg.training.run import train
from rtseg.training.task import SegmentationTask

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_camvid(tmp_path_factory, 8, 1)


SPLITS = {"split": "train", "holdouts": ("val",)}
EXACT = {"epochs": 4, "scenes": 0.25, "class_mix": 0.3, "light": 0.5, "deterministic": True, "validate_every": 4,
         **SPLITS}  # fmt: skip


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, without workers."""
    return train(config(root, tmp_path_factory.mktemp("whole"), **EXACT))


@pytest.mark.parametrize(("workers", "batch"), [(0, 0), (0, 2), (1, 0), (2, 2)])
def test_a_stopped_run_ends_in_the_same_bits(
    root: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, batch: int
) -> None:
    """Stopped in the third epoch, at its start or in the middle, however many workers read ahead."""
    options = {**EXACT, "workers": workers}
    stopped(config(root, tmp_path / "stopped", **options), monkeypatch, 2, batch)
    train(config(root, tmp_path / "stopped", **options))
    ours, theirs = (load_tree(folder / "last.ckpt") for folder in (tmp_path / "stopped", whole))
    for state in ("state_dict", "current_model_state"):
        for name, value in theirs[state].items():
            assert torch.equal(ours[state][name], value), name
    assert (tmp_path / "stopped" / "best.safetensors").read_bytes() == (whole / "best.safetensors").read_bytes()


def test_samples_do_not_depend_on_who_reads_them_nor_when(root: Path, tmp_path: Path) -> None:
    data = open_data("camvid", root, "train")
    threads = cv2.getNumThreads()
    cv2.cvtColor(np.zeros((2000, 2000, 3), np.uint8), cv2.COLOR_BGR2HSV)  # starts OpenCV's threads
    loaders = [training_loader(config(root, tmp_path, workers=workers, light=0.5), data) for workers in (0, 2)]
    for loader in loaders:
        loader.sampler.set_epoch(3)  # type: ignore[attr-defined]
    for one, two in zip(*loaders, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, two, strict=True))
    assert isinstance(loaders[0].dataset, TrainingSet)
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize("schedule", ["one-cycle", "poly"])
def test_a_finished_run_is_lengthened_by_another_cycle(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    rates: dict[int, float] = {}
    plain, stop_at = SegmentationTask.training_step, {"epoch": 99}

    def step(task: SegmentationTask, pair: Any, number: int) -> Any:
        if task.current_epoch == stop_at["epoch"]:
            raise KeyboardInterrupt
        rates[task.global_step] = task.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        return plain(task, pair, number)

    monkeypatch.setattr(SegmentationTask, "training_step", step)
    options = {**SPLITS, "schedule": schedule, "lr": 0.01}
    train(config(root, tmp_path, epochs=2, **options))
    first = dict(rates)
    stop_at["epoch"] = 4
    with pytest.raises(KeyboardInterrupt):
        train(config(root, tmp_path, epochs=6, **options))
    stop_at["epoch"] = 99
    train(config(root, tmp_path, epochs=6, **options))
    assert len(first) == 8
    assert sorted(rates) == list(range(24))
    assert len(losses(tmp_path)) == 6
    peaks = [max(rates[step] for step in steps) for steps in (range(8), range(9, 24))]
    assert peaks[1] > 0.8 * peaks[0]
    assert rates[7] < 0.3 * peaks[0]
    assert rates[23] < 0.1 * peaks[1]
    second = [rates[step] for step in range(10, 24)]
    assert second == sorted(second, reverse=True)  # also across the stop: one cycle, not a third
    with pytest.raises(UsageError, match=r"another epochs \(6, now 5\)"):
        train(config(root, tmp_path, epochs=5, **options))


def test_a_run_that_is_stopped_or_done_says_where_it_stands(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rtseg.training")
    plain = SegmentationTask.on_train_epoch_start

    def stop(task: SegmentationTask) -> None:
        if task.current_epoch == 1:
            raise KeyboardInterrupt
        plain(task)

    given = config(root, tmp_path, epochs=3, **SPLITS)
    with monkeypatch.context() as stopped:
        stopped.setattr(SegmentationTask, "on_train_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            train(given)
    train(given)
    assert "resumed at epoch 2 of 3" in caplog.messages
    caplog.clear()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    train(given)
    assert [line for line in caplog.messages if "is done" in line] == [
        f"the run in {tmp_path} is done: 3 epochs; a larger --epochs lengthens it"
    ]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_refused_run_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 8"):
        train(config(root, tmp_path / "deep" / "run", crop="36x36", **SPLITS))
    assert list(tmp_path.iterdir()) == []
    train(config(root, tmp_path / "run", epochs=1, **SPLITS))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="another lr"):
        train(config(root, tmp_path / "run", epochs=1, lr=0.5, **SPLITS))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_run_in_a_folder_is_refused(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, plain, refused = config(root, tmp_path / "run", epochs=1, **SPLITS), SegmentationTask.training_step, []

    def twice(task: SegmentationTask, pair: Any, number: int) -> Any:
        with pytest.raises(OutputError, match="another rtseg train is writing to"):
            train(given)
        refused.append(number)
        return plain(task, pair, number)

    monkeypatch.setattr(SegmentationTask, "training_step", twice)
    train(given)
    assert refused == [0, 1, 2, 3]
    assert not list(tmp_path.rglob("*.lock"))


def test_a_folder_of_ones_own_is_recognised(tmp_path: Path) -> None:
    mine = make_folder(tmp_path / "mine", [f"f_{index}" for index in range(5)])
    train(config(mine, tmp_path / "run", epochs=1))
    (mine / "classes.json").unlink()
    for init in (None, "enet"):
        with pytest.raises(InputError, match=r"mine is not CamVid in SegNet's layout: train.txt is missing"):
            train(config(mine, tmp_path / "other", epochs=1, init=init))


@pytest.mark.parametrize(
    ("options", "message"),
    [("--data camvid --root nowhere", "nowhere is not CamVid"), ("--data camvit --root .", "did you mean camvid"),
     ("--root {root} --split train", "give --holdouts val"), ("--root {root} --light 2", "light is 2.0")],
)  # fmt: skip
def test_mistakes_are_told_before_torch_is_loaded(root: Path, tmp_path: Path, options: str, message: str) -> None:
    words = ["train", "--model", "enet", "--output", str(tmp_path / "run"), *options.format(root=root).split()]
    script = (
        f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {words!r}; from cyclopts import App; "
        "from rtseg.apps._console import run; from rtseg.apps.train import command; "
        "app = App(); app.command(command, name='train'); run(app)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=1200)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2 or "nowhere" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_ends_a_run_as_ctrl_c_does(root: Path, tmp_path: Path, workers: int) -> None:
    """Even if its data-loader workers get the signal too, as from a service manager."""
    command = (f"train --model enet --root {root} --output {tmp_path} --crop 32x32 --batch-size 2 --scenes 0 "
               f"--workers {workers} --split train --holdouts val --validate-every 100 --epochs 9999")  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "rtseg.apps.main", *command.split()], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_for_file(tmp_path / "last.ckpt", process)
            os.killpg(process.pid, signal.SIGTERM)
            _, errors = process.communicate(timeout=1200)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "defect" not in errors
    assert errors.replace("\n", "").endswith(f"stopped: the same command resumes from {tmp_path}")
