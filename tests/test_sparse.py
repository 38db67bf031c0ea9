"""Sparse training: its phases, its masks, and runs that keep them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from camvid_tree import small_camvid
from tiny import TinyConfig, TinyNet, register_tiny
from torch.optim.lr_scheduler import OneCycleLR
from training_runs import config, stopped

from rtseg.core.errors import UsageError
from rtseg.training.checkpoint import load_tree
from rtseg.training.optimise import phased_rate
from rtseg.training.run import train
from rtseg.training.sparse import Phase, phase_at, phases_of
from rtseg.training.sparse.callback import SparseTraining
from rtseg.training.sparse.masks import by_magnitude, maskable, zero_share

pytestmark = pytest.mark.slow

HELD = {"split": "train", "holdouts": ("val",)}
RUN = {"model": "tiny", "epochs": 6, "validate_every": 3, "batch_size": 4, "deterministic": True, **HELD}


def phases(**changes: Any) -> tuple[Phase, ...]:
    return phases_of(config(Path(), Path(), **changes))


def test_dense_sparse_dense() -> None:
    assert phases(sparse="dsd", epochs=20) == (
        Phase(0, 0, cycle=True), Phase(10, 0.3, cycle=True), Phase(15, 0, rate=0.1, cycle=True)
    )  # fmt: skip
    assert [phase.epoch for phase in phases(sparse="dsd", epochs=3)] == [0, 1, 2]
    assert phases(epochs=20) == ()


def test_rounds() -> None:
    """Lottery: each round takes the same share of the rest. Magnitude: s (1 - (1 - i/n)^3)."""
    tickets = phases(sparse="lottery", sparsity=0.75, sparse_rounds=2, epochs=12)
    assert [(phase.epoch, phase.sparsity, phase.rewinds) for phase in tickets] == [
        (0, 0, False), (4, 0.5, True), (8, 0.75, True)
    ]  # fmt: skip
    steps = phases(sparse="magnitude", sparsity=0.8, sparse_rounds=2, epochs=9)
    assert [(phase.epoch, phase.cycle) for phase in steps] == [(0, True), (3, False), (6, False)]
    assert [phase.sparsity for phase in steps] == pytest.approx([0, 0.7, 0.8])  # 0.8 * (1 - 1/8)
    assert [phase_at(steps, epoch) for epoch in (0, 2, 3, 8)] == [0, 0, 1, 2]
    assert phase_at((), 5) == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sparse": "dds"}, "unknown way of sparse training 'dds': did you mean dsd"),
        ({"sparse": "dsd", "epochs": 2}, "needs at least 3"),
        ({"sparse": "lottery", "epochs": 3}, "needs at least 4"),
        ({"sparse": "magnitude", "sparse_rounds": 3, "epochs": 3}, "needs at least 4"),
        ({"sparse": "dsd", "sparse_rounds": 2}, "for lottery and magnitude"),
        ({"sparse": "dsd", "sparsity": 1.0}, "allowed is 0.01 to 0.99"),
        ({"sparse": "lottery", "sparse_rounds": 0}, "at least 1"),
        ({"sparsity": 0.3}, "go with --sparse"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        phases(**fields)


def test_the_rate_begins_anew_in_each_cycle() -> None:
    options = config(Path(), Path(), sparse="dsd", epochs=20, schedule="poly")
    found = [phased_rate(options, phases_of(options), epoch) for epoch in (0, 5, 10, 12.5, 15, 17.5, 20)]
    half = 0.5**0.9
    assert found == pytest.approx([1, half, 1, half, 0.1, 0.1 * half, 0])


def test_one_cycle_is_that_of_a_dense_run() -> None:
    options = config(Path(), Path(), sparse="magnitude", epochs=10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    torchs = OneCycleLR(optimizer, 1.0, 1001, pct_start=0.08, cycle_momentum=False, final_div_factor=1e3)
    for step in range(1001):
        ours = phased_rate(options, phases_of(options), 10 * step / 1000)
        assert ours == pytest.approx(torchs.get_last_lr()[0], abs=0.02)  # its peak is a step earlier
        optimizer.step()
        torchs.step() if step < 1000 else None


def test_the_smallest_weights_of_each_layer_are_masked() -> None:
    model = TinyNet(TinyConfig())
    assert list(maskable(model)) == ["second.0.weight", "third.0.weight", "classifier.weight"]
    with torch.no_grad():
        model.classifier.weight.copy_((torch.arange(11 * 16) - 100.0).view(11, 16, 1, 1))
    mask = by_magnitude(model, 0.1, {})["classifier.weight"]
    gone = (~mask).flatten().nonzero().flatten().tolist()
    assert gone == list(range(92, 109)), "17 of 176, those next to the weight that is 0: it, -8..-1 and 1..8"
    with torch.no_grad():
        model.classifier.weight.view(-1)[92:109] = 1000.0  # large by now, but masked weights stay masked
    assert not by_magnitude(model, 0.2, {"classifier.weight": mask})["classifier.weight"][~mask].any()
    state = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    state["classifier.weight"] = mask
    weights = sum(value.numel() for value in maskable(model).values())
    assert zero_share(model, state) == pytest.approx(17 / weights)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    register_tiny()
    return small_camvid(tmp_path_factory, 8, 1)


SPARSE = [
    {"sparse": "dsd"},
    {"sparse": "lottery", "sparsity": 0.75, "sparse_rounds": 2},
    {"sparse": "magnitude", "sparsity": 0.6, "sparse_rounds": 2},
]


@pytest.mark.parametrize("method", SPARSE, ids=lambda method: method["sparse"])
def test_masks_hold_and_survive_a_stop(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any]
) -> None:
    """Stopped in the fourth epoch, in the middle of a phase: the masks come from the checkpoint."""
    whole = train(config(root, tmp_path / "whole", **RUN, **method))
    stopped(config(root, tmp_path / "stopped", **RUN, **method), monkeypatch, 3, 1)
    train(config(root, tmp_path / "stopped", **RUN, **method))
    ours, theirs = (load_tree(folder / "last.ckpt") for folder in (tmp_path / "stopped", whole))
    for state in ("state_dict", "current_model_state"):
        for name, value in theirs[state].items():
            assert torch.equal(ours[state][name], value), name
    masks = theirs["callbacks"]["SparseTraining"]["masks"]
    share = {"dsd": 0.0, "lottery": 0.75, "magnitude": 0.6}[method["sparse"]]
    for state in ("state_dict", "current_model_state"):  # the running mean, and the weights themselves
        for name, mask in masks.items():
            weight = theirs[state][f"model.{name}"]
            assert not weight[~mask].any(), name
            assert int((~mask).sum()) == int(share * mask.numel())
    recipe = json.loads((whole / "best.json").read_text())["recipe"]
    assert recipe["zero_weights"] == pytest.approx(share, abs=0.01)
    assert bool(masks) == (share > 0)


def test_tickets_go_back_to_the_weights_after_the_first_epoch(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}
    plain = SparseTraining.on_train_epoch_start

    def look(self: SparseTraining, trainer: Any, task: Any) -> None:
        plain(self, trainer, task)
        seen[trainer.current_epoch] = {name: value.clone() for name, value in task.model.state_dict().items()}
        if trainer.current_epoch == 3:
            assert not any(optimizer.state for optimizer in trainer.optimizers)
            assert all(torch.equal(a, b) for a, b in zip(
                self.averaging.averaged().state_dict().values(), task.model.state_dict().values(), strict=True
            ))  # fmt: skip
            seen[-1] = dict(self.masks)

    monkeypatch.setattr(SparseTraining, "on_train_epoch_start", look)
    train(config(root, tmp_path / "run", **RUN, sparse="lottery"))
    early, again, masks = seen[1], seen[3], seen[-1]
    assert not torch.equal(seen[2]["second.0.weight"], early["second.0.weight"])
    for name, value in early.items():
        expected = value * masks[name] if name in masks else value
        assert torch.equal(again[name], expected), name


def test_a_finished_sparse_run_is_not_lengthened(root: Path, tmp_path: Path) -> None:
    train(config(root, tmp_path, **{**RUN, "epochs": 3}, sparse="dsd"))
    with pytest.raises(UsageError, match="phases cannot be lengthened"):
        train(config(root, tmp_path, **RUN, sparse="dsd"))
