"""Trouble around a run: no memory, no disk, missing pictures, and changes to its folder in the meantime."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from camvid_tree import small_camvid
from folder_tree import make_folder
from matplotlib import font_manager
from safetensors.torch import save_file
from training_runs import config

from rtseg.core.errors import OutputError, RtsegError, UsageError, WeightsError
from rtseg.core.labels import LabelSet
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.training.before import read_data
from rtseg.training.checkpoint import load_tree, save_tree
from rtseg.training.failures import told
from rtseg.training.fonts import lettered
from rtseg.training.origin import find_origin
from rtseg.training.report import draw_confusion
from rtseg.training.run import train
from rtseg.training.summary import read_curves

pytestmark = pytest.mark.slow

SPLITS = {"split": "train", "holdouts": ("val",)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_camvid(tmp_path_factory, 4, 1)


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of one epoch."""
    return train(config(root, tmp_path_factory.mktemp("done") / "run", epochs=1, **SPLITS))


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(done, tmp_path / "run"))


@pytest.mark.parametrize("name", ["best.safetensors", "best.json"])
def test_best_weights_that_are_lost_are_told_and_made_again(
    root: Path, run: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A finished run claimed they were there; a longer one failed after its last epoch because they were missing."""
    (run / name).write_bytes((run / name).read_bytes()[:50])
    with pytest.raises(WeightsError, match=r"is done, but its best weights are lost .*: a larger --epochs"):
        train(config(root, run, epochs=1, **SPLITS))
    train(config(root, run, epochs=2, **SPLITS))
    assert any("best weights are lost" in line for line in caplog.messages)
    assert json.loads((run / "best.json").read_text())["recipe"]["epochs_done"] == 2
    assert find_origin(str(run / "best.safetensors")).network()


def test_a_checkpoint_that_is_none_of_a_run_is_told(root: Path, run: Path) -> None:
    for damage in (b"", (run / "last.ckpt").read_bytes()[:5000], (run / "best.safetensors").read_bytes()):
        (run / "last.ckpt").write_bytes(damage)
        with pytest.raises(WeightsError, match=r"cannot be resumed: give another --output, with --init .*best\.safet"):
            train(config(root, run, epochs=2, **SPLITS))


def test_a_bit_that_a_disk_has_changed_is_told(root: Path, run: Path) -> None:
    """Weights were read whatever they had become: only the head of a checkpoint was looked at."""
    for name, said in (
        ("last.ckpt", "checksum does not match.* cannot be resumed"),
        ("best.safetensors", "are lost .*checksum does not match"),
    ):
        whole = (run / name).read_bytes()
        rotten = bytearray(whole)
        rotten[-100] ^= 0x10
        (run / name).write_bytes(rotten)
        with pytest.raises(WeightsError, match=said):
            train(config(root, run, epochs=1, **SPLITS))
        (run / name).write_bytes(whole)


def test_a_checkpoint_without_a_checksum_is_read(tmp_path: Path) -> None:
    """Those of before November 28, 2026 have none."""
    save_file(
        {"/weights": torch.ones(3)},
        tmp_path / "old",
        {"tree": '{"__pairs__": [["weights", {"__tensor__": "/weights"}]]}'},
    )
    assert load_tree(tmp_path / "old")["weights"].tolist() == [1, 1, 1]


def test_every_kind_of_tensor_has_a_checksum(tmp_path: Path) -> None:
    kinds = {"none": torch.ones(0, 3), "one": torch.tensor(2.5), "half": torch.ones(3, dtype=torch.bfloat16),
             "bits": torch.tensor([True, False]), "turned": torch.arange(6).reshape(2, 3).T}  # fmt: skip
    save_tree(kinds, tmp_path / "a")
    for name, value in load_tree(tmp_path / "a").items():
        assert torch.equal(value, kinds[name])
        assert value.dtype == kinds[name].dtype


def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match=r"is damaged: .*a pipe, socket or device, not a file"):
        load_tree(tmp_path / "last.ckpt")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_is_named_whoever_reads_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """It was a 'defect', with a worker's traceback if a worker had read it."""
    own = Path(shutil.copytree(root, tmp_path / "data"))

    def gone(*_: object) -> torch.Tensor:  # after all checks
        for mask in (own / "trainannot").iterdir():
            mask.unlink()
        return torch.ones(11)

    monkeypatch.setattr("rtseg.training.run.class_weights", gone)
    with pytest.raises(RtsegError, match=r"^\S+\.png is missing: every picture needs its label picture$"):
        train(config(own, tmp_path / "run", epochs=1, workers=workers, **SPLITS))


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), UsageError, "the GPU's memory: give"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), UsageError, "this machine's memory: give"),
        (MemoryError("Unable to allocate 9 GiB"), UsageError, r"--batch-size \(it was 2; --accumulate"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), UsageError, r"--workers \(it was 0\)"),
        (OSError(28, "No space left on device", "a/metrics.csv"), OutputError, "a/metrics.csv: No space left"),
        (OSError("closed"), OutputError, "cannot go on: closed; check the folder"),
        (RuntimeError("shapes differ"), RuntimeError, "^shapes differ$"),
    ],
)  # fmt: skip
def test_what_a_machine_cannot_give_is_no_defect(
    tmp_path: Path, error: Exception, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message), told(config(tmp_path, tmp_path)):
        raise error


def test_a_checkpoint_that_finds_no_room_is_told_and_the_one_before_stays(tmp_path: Path) -> None:
    resource: Any = pytest.importorskip("resource")
    path = tmp_path / "last.ckpt"
    save_tree({"weights": torch.ones(10)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*last\.ckpt: .*; check the folder and free space"):
            save_tree({"weights": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_tree(path)["weights"].tolist() == [1] * 10
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_tree({"weights": torch.ones(10)}, tmp_path / "last.ckpt")
    finally:
        os.umask(before)
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o777 == 0o640


def test_curves_are_read_past_what_is_torn_or_no_start(tmp_path: Path) -> None:
    for name, text in (
        ("version_0", "epoch,loss,step,val_miou\n0,2.5,3,\n0,,3,0.25\n1,1.5\n"),
        ("version_1", "epoch,loss,step\n1,1.25,7\n2,x,9\n"),
        ("version_0 (copy)", "epoch,loss,step\n0,9,3\n"),
    ):
        (tmp_path / "curves" / name).mkdir(parents=True)
        (tmp_path / "curves" / name / "metrics.csv").write_text(text)
    assert read_curves(tmp_path) == {"loss": [(1, 2.5), (2, 1.25)], "val_miou": [(1, 0.25)]}


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    """It ended a run after its first epoch."""
    labels = LabelSet("shop", ("$x^$", "b"), ((1, 2, 3), (4, 5, 6)))
    matrix = ConfusionMatrix(labels, np.array([[3, 1], [0, 4]]))
    draw_confusion(matrix, "val", tmp_path / "confusion.png")
    assert cv2.imread(str(tmp_path / "confusion.png")).std() > 0


def test_names_without_a_font_are_numbers_and_said_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They were boxes, with some warnings of matplotlib for each figure of each epoch."""
    own = [entry for entry in font_manager.fontManager.ttflist if entry.name.startswith(("DejaVu Sans", "STIX"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    lettered.cache_clear()
    labels = LabelSet("street", ("道路", "b", "crossed Ⓐ"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    written, family = lettered(labels.names)
    assert written == ("class 0", "b", "crossed Ⓐ")  # of a circled letter STIX has the sign
    assert family == ["sans-serif", "STIXGeneral"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            draw_confusion(ConfusionMatrix(labels, np.eye(3, dtype=int)), "val", tmp_path / "confusion.png")
    lettered.cache_clear()
    assert caplog.messages == ["no font of this machine has the letters of some names, so in figures '道路' is "
                               "'class 0': install one, such as Noto Sans CJK"]  # fmt: skip


def test_a_run_is_no_network_until_its_best_weights_are_named(run: Path) -> None:
    for given in (run, run / "last.ckpt"):
        with pytest.raises(UsageError, match=f"give {run / 'best.safetensors'}$"):
            find_origin(str(given))


@pytest.mark.parametrize(("key", "value"), [("model", None), ("config", []), ("metrics", []), ("recipe", "none")])
def test_a_damaged_card_is_told(run: Path, key: str, value: Any) -> None:
    card = json.loads((run / "best.json").read_text())
    (run / "best.json").write_text(json.dumps({**card, key: value}))
    with pytest.raises(WeightsError, match=rf"needs the card that its run wrote beside it, best\.json: its {key} is "):
        find_origin(str(run / "best.safetensors"))


def test_pictures_that_two_lists_name_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They were trained on and scored without a warning."""
    root = make_folder(tmp_path, ["a", "b", "c"])
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("b.jpg\nc\n")
    read_data(config(root, tmp_path / "run"))
    assert caplog.messages == [
        "1 of the 2 pictures of val are trained on too (b): its figures say little about other pictures"
    ]
