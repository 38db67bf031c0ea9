"""A pruned network is used like any other: trained further, from scratch as its own baseline, exported, compared."""

import json
import logging
from pathlib import Path

import pytest
import torch
from camvid_tree import small_camvid
from rich.console import Console
from tiny import lively, register_tiny
from training_runs import config, finished

from rtseg.apps import export as export_app
from rtseg.apps import prune as app
from rtseg.apps.prune import PruneOptions
from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.zoo import resolve
from rtseg.models.base import count_macs
from rtseg.models.weights import load_network
from rtseg.training.checkpoint import load_tree
from rtseg.training.origin import find_origin
from rtseg.training.pruning.folder import missing, read_row
from rtseg.training.pruning.prune import PAPER_SIZE
from rtseg.training.run import train

pytestmark = pytest.mark.slow

HELD = {"split": "train", "holdouts": ("val",)}
RUN = {"model": "tiny", "epochs": 1, "batch_size": 4, **HELD}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_camvid(tmp_path_factory, 4, 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as left by a run."""
    register_tiny()
    folder = tmp_path_factory.mktemp("runs") / "whole"
    folder.mkdir()
    return Path(finished(lively("tiny"), "tiny", folder))


@pytest.fixture(scope="module")
def pruned(whole: Path) -> Path:
    app.command(PruneOptions(model=str(whole), keep=0.5, output=whole.parents[1] / "pruned"))
    return whole.parents[1] / "pruned" / "best.safetensors"


def test_what_is_written_and_said(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app.command(PruneOptions(model=str(whole.with_suffix(".json")), method="l2", keep=0.5, output=tmp_path / "out"))
    said = capsys.readouterr().out
    small, large = find_origin(str(tmp_path / "out" / "best.safetensors")).network(), find_origin(str(whole)).network()
    macs = [count_macs(network, PAPER_SIZE) for network in (large, small)]
    assert f"{macs[0] / 1e9:.2f} G -> {macs[1] / 1e9:.2f} G ({macs[1] / macs[0]:.0%})" in said
    assert macs[1] < 0.4 * macs[0]
    card = json.loads((tmp_path / "out" / "best.json").read_text())
    assert card["recipe"]["pruned"] == {"method": "l2", "keep": 0.5, "per": "layer", "seed": 0}
    assert card["recipe"]["init"]["sha256"] == find_origin(str(whole)).sha256
    assert card["metrics"] == {}, "the figures of the whole network are not those of this one"


@pytest.fixture(scope="module")
def fine(root: Path, pruned: Path) -> Path:
    """The pruned network, trained on for a step."""
    return train(config(root, pruned.parents[1] / "fine", **RUN, init=str(pruned)))


def test_it_is_trained_on(pruned: Path, fine: Path) -> None:
    card, before = (json.loads(path.with_suffix(".json").read_text()) for path in (fine / "best.json", pruned))
    assert card["config"] == before["config"]
    assert card["recipe"]["init"]["recipe"]["pruned"]["method"] == "l1"
    ours, theirs = load_tree(fine / "best.safetensors"), load_tree(pruned)
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    assert not torch.equal(ours["first.1.weight"], theirs["first.1.weight"])


def test_the_baselines_beside_it(
    root: Path, whole: Path, pruned: Path, fine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Scratch-B spends the arithmetic of the whole network's epochs: with fewer MACs, more epochs."""
    small, large = (count_macs(find_origin(str(path)).network(), PAPER_SIZE) for path in (pruned, whole))
    options = {**RUN, "init": str(pruned)}
    train(config(root, tmp_path / "steps", **options, from_scratch="steps"))
    with caplog.at_level(logging.INFO, logger="rtseg.training"):
        train(config(root, tmp_path / "macs", **options, from_scratch="macs"))
    rows = [read_row(path) for path in (pruned.parent, fine, tmp_path / "steps", tmp_path / "macs")]
    assert [row.what for row in rows] == ["pruned", "fine-tuned", "scratch-E", "scratch-B"]
    assert [row.epochs for row in rows] == [0, 1, 1, round(large / small)]
    assert f"scratch-B: {round(large / small)} epochs" in caplog.text
    assert len({row.network for row in rows}) == 1
    assert missing(rows) == []
    assert ["--from-scratch macs" in line for line in missing(rows[:3])] == [True]
    recipe = json.loads((tmp_path / "steps" / "best.json").read_text())["recipe"]
    assert "init" not in recipe, "none of its weights come from there"
    assert recipe["shape_of"]["recipe"]["pruned"]["method"] == "l1"
    again = train(config(root, tmp_path / "macs", **options, from_scratch="macs"))  # is done already, and says so
    assert read_row(again).epochs == round(large / small)
    app.report(tuple(row.folder for row in rows), Console(width=200))
    assert "scratch-B" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init": None, "from_scratch": "steps"}, "goes with --init"),
        ({"from_scratch": "macs"}, "nothing was pruned"),
        ({"from_scratch": "steps", "model": "enet"}, "give --model tiny instead of enet"),
    ],
)
def test_no_baseline(root: Path, whole: Path, tmp_path: Path, fields: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train(config(root, tmp_path / "run", **{**RUN, "init": str(whole), **fields}))


def test_it_is_exported_and_rebuilt_from_its_card(pruned: Path, tmp_path: Path) -> None:
    export_app.command(export_app.ExportOptions(checkpoint=pruned, name="small", folder=tmp_path))
    artifact = resolve(tmp_path / "small.onnx")
    network = load_network(artifact)
    state = {name: value.float() for name, value in load_tree(pruned).items()}
    assert torch.equal(network.state_dict()["second.0.weight"], state["second.0.weight"])
    app.command(PruneOptions(model=str(tmp_path / "small.json"), keep=0.5, output=tmp_path / "smaller"))
    smaller = find_origin(str(tmp_path / "smaller" / "best.safetensors")).network()
    assert smaller.first[0].out_channels == 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": None}, "--model is not given"),
        ({"output": None}, "--output is not given"),
        ({"keep": None}, "give either --keep"),
        ({"macs": 0.5}, "give either --keep"),
        ({"keep": 0.0}, "--keep is 0: allowed is above 0 and up to 1"),
        ({"keep": 1.5}, "--keep is 1.5"),
        ({"keep": float("nan")}, "--keep is nan"),
        ({"keep": None, "macs": -1.0}, "--macs is -1"),
        ({"method": "l3"}, "did you mean l2 or l1"),
        ({"model": "enett"}, "did you mean enet"),
        ({"model": "card.json"}, "a card without its weights"),
    ],
)
def test_what_is_refused(whole: Path, tmp_path: Path, fields: dict[str, object], said: str) -> None:
    given = {"model": str(whole), "keep": 0.5, "output": tmp_path / "out", **fields}
    with pytest.raises(UsageError, match=said):
        app.command(PruneOptions(**given))
    assert not (tmp_path / "out").exists()


def test_neither_the_network_nor_a_run_is_overwritten(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would overwrite the network to prune"):
        app.command(PruneOptions(model=str(whole), keep=0.5, output=whole.parent))
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(UsageError, match="holds a training run"):
        app.command(PruneOptions(model=str(whole), keep=0.5, output=tmp_path))
    with pytest.raises(WeightsError, match="is not the card of a run"):
        app.command(PruneOptions(report=(tmp_path,)))


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    app.command(PruneOptions(method="list"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["l1", "l2", "bn", "random"]
    assert all(len(line) > 20 for line in lines)
