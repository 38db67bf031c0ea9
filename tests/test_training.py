import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from camvid_tree import NAMES, make_camvid
from folder_tree import make_folder
from tiny import lively
from torch.nn import functional

from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.labels import CAMVID11
from rtseg.datasets import open_data
from rtseg.export.network import export_network
from rtseg.models import build_model
from rtseg.training.checkpoint import load_tree, save_tree
from rtseg.training.config import TrainConfig
from rtseg.training.data import TrainingSet, training_loader
from rtseg.training.losses import class_weights, segmentation_loss, shrink_labels
from rtseg.training.run import choose_precision, start_from, train

TINY = {
    "model": "enet", "crop": "32x32", "batch_size": 2, "scenes": 0.0, "workers": 0, "validate_every": 1,
    "precision": "fp32", "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("camvid")
    make_camvid(folder, NAMES[:4] + NAMES[20:24])
    make_camvid(folder, NAMES[:1], "val")
    return folder


def config(root: Path, output: Path, **changes: object) -> TrainConfig:
    return TrainConfig(root=root, output=output, **{**TINY, **changes})  # type: ignore[arg-type]


def losses(folder: Path) -> list[float]:
    found: dict[int, float] = {}
    for path in sorted(folder.glob("curves/version_*/metrics.csv")):
        with path.open() as file:
            found.update({int(row["epoch"]): float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")})
    return [found[epoch] for epoch in sorted(found)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"epochs": 0}, "epochs is 0"), ({"crop": "12"}, "HEIGHTxWIDTH"), ({"ohem": 2.0}, "ohem is 2.0"),
     ({"scale": (2.0, 1.0)}, "smallest and a largest factor"),
     ({"lr": -1.0}, "lr must be above 0"), ({"class_balance": 0.5}, "class_balance 0 or above 1")],
)  # fmt: skip
def test_config_checks_itself(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(model="enet", **changes)  # type: ignore[arg-type]


def test_crop_must_fit_the_network(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 8; the nearest is 32x40"):
        train(config(root, tmp_path, crop="32x36"))


@pytest.mark.parametrize(("split", "holdouts"), [("train", ("val", "tail")), ("val", ("val",))])
def test_what_is_trained_on_is_never_scored(root: Path, tmp_path: Path, split: str, holdouts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="shares pictures with the holdout"):
        train(config(root, tmp_path, split=split, holdouts=holdouts))


def test_precision_is_never_replaced() -> None:
    if torch.cuda.is_available():
        assert choose_precision("fp16") == "fp16"
    else:
        with pytest.raises(UsageError, match="fp16 needs a GPU"):
            choose_precision("fp16")
    assert choose_precision("bf16") == "bf16"
    assert choose_precision("auto") in ("bf16", "fp32")


def test_augmented_samples_follow_from_seed_epoch_and_index(root: Path, tmp_path: Path) -> None:
    data = open_data("camvid", root, "train")
    one, two = (TrainingSet(config(root, tmp_path, seed=3), data) for _ in range(2))
    image, labels = one[0, 2]
    assert (image.shape, image.dtype) == ((32, 32, 3), torch.uint8)
    assert (labels.shape, labels.dtype) == ((32, 32), torch.int64)
    two[5, 1]  # what was read before must not matter
    assert torch.equal(two[0, 2][0], image)
    assert not torch.equal(one[1, 2][0], image)
    assert labels.max() <= 11


def test_loader_mixes_street_scenes_and_shuffles_by_epoch(root: Path, tmp_path: Path) -> None:
    loader = training_loader(config(root, tmp_path, scenes=0.25), open_data("camvid", root, "train"))
    assert len(loader.dataset) == 10  # type: ignore[arg-type]
    sampler = loader.sampler
    first = list(sampler)
    sampler.set_epoch(1)  # type: ignore[attr-defined]
    assert sorted(index for _, index in sampler) == list(range(10))
    assert [index for _, index in sampler] != [index for _, index in first]


def test_class_weights_rise_as_classes_get_rare(root: Path) -> None:
    data = open_data("camvid", root, "train")
    assert torch.equal(class_weights(data, 0), torch.ones(11))
    assert class_weights(data, 1.02).mean() == pytest.approx(1)


def test_loss_ignores_unlabelled_pixels_and_ohem_keeps_the_hard_ones() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 11, 8, 8), torch.randint(0, 11, (2, 8, 8))
    weights = torch.ones(11)
    plain = segmentation_loss(logits, labels, weights, 11)
    assert plain == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
    labels[0] = 11
    assert segmentation_loss(logits, labels, weights, 11) == pytest.approx(
        float(functional.cross_entropy(logits[1:], labels[1:])), rel=1e-5
    )
    assert segmentation_loss(logits, labels, weights, 11, ohem=0.25) > segmentation_loss(logits, labels, weights, 11)
    assert segmentation_loss(logits, labels.repeat_interleave(2, 1).repeat_interleave(2, 2), weights, 11).isfinite()
    assert shrink_labels(labels.repeat_interleave(2, 1).repeat_interleave(2, 2), (8, 8)).equal(labels)


def test_checkpoint_tree_survives_and_damage_is_named(tmp_path: Path) -> None:
    tree = {"a": [torch.arange(3), {0: torch.ones(2, 2)}], "t": (1, 2.5, None), "s": "text", "b": True}
    path = tmp_path / "x.safetensors"
    save_tree(tree, path)
    back = load_tree(path)
    assert torch.equal(back["a"][0], tree["a"][0])  # type: ignore[index]
    assert torch.equal(back["a"][1][0], torch.ones(2, 2))
    assert (back["t"], back["s"], back["b"]) == ((1, 2.5, None), "text", True)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="not a checkpoint"):
        load_tree(path)
    with pytest.raises(TypeError, match="holds tensors and plain values only"):
        save_tree({"f": print}, path)


def test_a_run_leaves_weights_card_curves_and_pictures(root: Path, tmp_path: Path) -> None:
    folder = train(config(root, tmp_path / "run", epochs=1, validate_every=5))
    card = json.loads((folder / "best.json").read_text())
    assert set(card["metrics"]) == {"camvid/val", "camvid/tail"}
    assert card["recipe"]["epochs_done"] == 1
    state = load_tree(folder / "best.safetensors")
    model = build_model(card["model"], card["config"])
    assert set(state) == set(model.state_dict())
    assert all(value.dtype == torch.float16 for value in state.values() if value.ndim > 1)
    for picture in ("samples_0001.png", "confusion_val.png", "confusion_tail.png"):
        assert (folder / picture).stat().st_size > 1000
    assert len(losses(folder)) == 1


def test_a_folder_of_ones_own_trains_with_its_own_classes(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "mine", [f"f_{index}" for index in range(5)])  # four to train on, one held out
    folder = train(config(data, tmp_path / "run", data="folder", epochs=1))
    card = json.loads((folder / "best.json").read_text())
    assert card["labels"]["names"] == ["grass", "path", "shed"]
    assert card["config"]["classes"] == 3
    assert set(card["metrics"]) == {"folder/val"}
    assert (card["recipe"]["split"], card["recipe"]["holdouts"]) == ("train", ["val"])
    steps = load_tree(folder / "last.ckpt")["global_step"]
    assert steps == 2
    assert len(losses(folder)) == 1


def test_init_starts_from_an_exported_network(tmp_path: Path) -> None:
    trained = lively("tiny")
    artifact = export_network(trained, "tiny", CAMVID11, tmp_path, train_size=(32, 32))
    path = str(tmp_path / "tiny.onnx")
    same, fewer = (build_model("tiny", {"classes": classes}) for classes in (11, 5))
    assert start_from(same, path)["sha256"] == artifact.card.files["fp32"].sha256
    for name, value in trained.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(same.state_dict()[name], value.half().float() if value.ndim > 1 else value), name
    start_from(fewer, path)
    assert torch.equal(fewer.state_dict()["first.0.weight"], same.state_dict()["first.0.weight"])
    with pytest.raises(UsageError, match="it has no place for"):
        start_from(build_model("enet", {}), path)


SCRIPT = """
import sys, json
from pathlib import Path
from rtseg.training.config import TrainConfig
from rtseg.training.run import train
fields = json.loads(sys.argv[1])
fields["root"], fields["output"] = Path(fields["root"]), Path(fields["output"])
train(TrainConfig(**fields))
"""


def test_killed_run_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    """After SIGKILL the same command gives the curve and the weights of a run that was never stopped."""
    epochs = 4
    whole = train(config(root, tmp_path / "whole", epochs=epochs))
    killed = tmp_path / "killed"
    fields = {**TINY, "root": str(root), "output": str(killed), "epochs": epochs}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(fields)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while not (killed / "last.ckpt").is_file():
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train(config(root, killed, epochs=epochs))
    np.testing.assert_allclose(losses(killed), losses(whole)[-len(losses(killed)) :], rtol=1e-4)
    ours, theirs = load_tree(killed / "last.ckpt"), load_tree(whole / "last.ckpt")
    for name, value in theirs["state_dict"].items():
        np.testing.assert_allclose(ours["state_dict"][name].numpy(), value.numpy(), rtol=1e-4, atol=1e-5)
