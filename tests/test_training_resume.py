"""A stopped run goes on as if it had not been stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from camvid_tree import NAMES, make_camvid
from training_runs import config

from rtseg.training.checkpoint import load_tree
from rtseg.training.data import TrainingSet
from rtseg.training.run import train
from rtseg.training.task import SegmentationTask


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("camvid")
    make_camvid(folder, NAMES[:8])
    make_camvid(folder, NAMES[20:21], "val")
    return folder


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batch", [0, 2])
def test_a_stopped_run_ends_in_the_same_bits(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, batch: int
) -> None:
    """Stopped in the third epoch, at its start or in the middle, whatever number of workers reads ahead."""
    options = {"epochs": 4, "workers": workers, "scenes": 0.25, "class_mix": 0.3, "light": 0.5, "deterministic": True,
               "split": "train", "holdouts": ("val",), "validate_every": 4}  # fmt: skip
    plain = SegmentationTask.training_step

    def step_or_stop(task: SegmentationTask, pair: Any, number: int) -> Any:
        if (task.current_epoch, number) == (2, batch):
            raise KeyboardInterrupt
        return plain(task, pair, number)

    whole = train(config(root, tmp_path / "whole", **options))
    with monkeypatch.context() as stopped:
        stopped.setattr(SegmentationTask, "training_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(config(root, tmp_path / "stopped", **options))
    train(config(root, tmp_path / "stopped", **options))
    ours, theirs = (load_tree(folder / "last.ckpt") for folder in (tmp_path / "stopped", whole))
    for state in ("state_dict", "current_model_state"):
        for name, value in theirs[state].items():
            assert torch.equal(ours[state][name], value), name
    assert (tmp_path / "stopped" / "best.safetensors").read_bytes() == (whole / "best.safetensors").read_bytes()


def test_samples_do_not_depend_on_who_reads_them_nor_when(root: Path, tmp_path: Path) -> None:
    from rtseg.datasets import open_data
    from rtseg.training.data import training_loader

    data = open_data("camvid", root, "train")
    loaders = [training_loader(config(root, tmp_path, workers=workers, light=0.5), data) for workers in (0, 2)]
    for loader in loaders:
        loader.sampler.set_epoch(3)  # type: ignore[attr-defined]
    for one, two in zip(*loaders, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, two, strict=True))
    assert isinstance(loaders[0].dataset, TrainingSet)
