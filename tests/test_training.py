import csv
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from camvid_tree import NAMES, make_camvid
from folder_tree import make_folder
from teaching_batches import UNKNOWN, network_batch
from tiny import SMALL, lively, quick_export, register_tiny
from torch.nn import functional
from training_runs import SCRIPT, TINY, config, finished, losses, wait_for_file

from rtseg.apps.evaluate import EvalOptions, score
from rtseg.apps.export import ExportOptions, load
from rtseg.core.errors import InputError, OutputError, UsageError, WeightsError
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact, resolve
from rtseg.datasets import open_data
from rtseg.datasets.classes import read_classes
from rtseg.datasets.lineage import seen_split
from rtseg.models import build_model
from rtseg.training import summary
from rtseg.training.augment import paste_classes
from rtseg.training.before import say_size, share_of_scenes
from rtseg.training.checkpoint import load_tree, save_tree
from rtseg.training.config import TrainConfig
from rtseg.training.data import EpochSampler, TrainingSet, training_loader
from rtseg.training.distill import METHODS
from rtseg.training.distill.teachers import Teachers, find_teachers
from rtseg.training.losses import class_weights, near_border, segmentation_loss, shrink_labels
from rtseg.training.origin import find_origin
from rtseg.training.precision import choose_precision, keep_gradients_true
from rtseg.training.progress import time_left
from rtseg.training.report import half
from rtseg.training.run import train
from rtseg.training.start import architecture, start_from, take_trunk
from rtseg.training.task import SegmentationTask

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("camvid")
    make_camvid(folder, NAMES[:4] + NAMES[20:24])
    make_camvid(folder, NAMES[:1], "val")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"epochs": 0}, "epochs is 0"), ({"crop": "12"}, "HEIGHTxWIDTH"), ({"ohem": 2.0}, "ohem is 2.0"),
     ({"scale": (2.0, 1.0)}, "smallest and a largest factor"),
     ({"seed": -1}, "seed is -1"), ({"workers": -1}, "workers is -1"),
     ({"lr": float("nan")}, "lr is nan: it must be a finite number"), ({"lr": float("inf")}, "lr is inf"),
     ({"class_balance": float("nan")}, "class_balance is nan"), ({"scale": (float("nan"), 1.0)}, "scale is"),
     ({"weight_decay": float("nan")}, "weight_decay is nan"), ({"weight_decay": -0.1}, "weight_decay is -0.1: allowed"),
     ({"class_mix": 1.5}, "class_mix is 1.5: allowed is 0 to 1"),
     ({"sync_batch_norm": True}, "give --devices 2 or more"),
     ({"lr": -1.0}, "lr must be above 0"), ({"class_balance": 0.5}, "class_balance 0 or above 1")],
)  # fmt: skip
def test_config_checks_itself(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(model="enet", **changes)  # type: ignore[arg-type]


def test_crop_must_fit_the_network(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 8; the nearest is 32x40"):
        train(config(root, tmp_path, crop="32x36"))


def test_crop_must_fit_the_teachers(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"size 72x72 does not fit the teacher icnet: .* multiples of 32"):
        train(config(root, tmp_path, crop="72x72", teacher=("icnet",), holdouts=("val",)))


def test_encoder_and_fields_reach_the_network(root: Path, tmp_path: Path) -> None:
    fields = ("output_stride=16", "rates=[4,8]", "pretrained=/some/folder/x.pth", "separable=false")
    given = config(root, tmp_path, model="deeplabv3", encoder="resnet18", set=fields)
    assert given.model_config() == {
        "encoder": "resnet18", "output_stride": 16, "rates": [4, 8], "pretrained": "/some/folder/x.pth",
        "separable": False,
    }  # fmt: skip
    recipe = given.to_json()
    assert recipe["encoder"] == "resnet18"
    assert recipe["set"] == ["output_stride=16", "rates=[4,8]", "pretrained=x.pth", "separable=false"]
    assert json.loads(json.dumps(recipe)) == recipe
    by_name = config(root, tmp_path, model="deeplabv3", encoder="efficientnet_lite0", set=("pretrained=imagenet",))
    assert by_name.to_json()["set"] == ["pretrained=imagenet"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": ("output_stride",)}, "'output_stride' is not FIELD=VALUE"),
        ({"model": "pspnet", "set": ("output_strid=8",)}, "resnet50_half 'output_strid': did you mean output_stride"),
        ({"model": "pspnet", "set": ("output_stride=eight",)}, "output_stride is eight: allowed are 8, 16 and 32"),
        ({"model": "enet", "encoder": "resnet18"}, "unknown field of ENet 'encoder': allowed: classes, dropout"),
        ({"model": "pspnet", "set": ("classes=3",)}, "classes follow from the data set"),
        ({"model": "smp:unet:resnet18", "encoder": "resnet34"}, "smp:unet:resnet18 names its encoder itself"),
    ],
)  # fmt: skip
def test_fields_that_a_network_lacks_are_told(
    root: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(config(root, tmp_path, **changes))


def test_a_network_on_an_encoder_trains_and_is_rebuilt(root: Path, tmp_path: Path) -> None:
    fields = ("width=0.125", "channels=8", "output_stride=16")
    folder = train(config(root, tmp_path, model="pspnet", encoder="resnet18", set=fields, epochs=1))
    card = json.loads((folder / "best.json").read_text())
    assert (card["config"]["encoder"], card["config"]["output_stride"]) == ("resnet18", 16)
    assert set(load_tree(folder / "best.safetensors")) == set(build_model("pspnet", card["config"]).state_dict())


@pytest.mark.parametrize(("split", "holdouts"), [("train", ("val", "tail")), ("val", ("val",))])
def test_what_is_trained_on_is_never_scored(root: Path, tmp_path: Path, split: str, holdouts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"this run is trained on camvid/.* has pictures of the holdout"):
        train(config(root, tmp_path, split=split, holdouts=holdouts))


@pytest.mark.parametrize("role", ["init", "teacher"])
def test_what_a_start_or_a_teacher_has_seen_is_never_scored(root: Path, tmp_path: Path, role: str) -> None:
    """The shipped networks' last training used all of train."""
    given = config(root, tmp_path / "run", **{role: ("enet",) if role == "teacher" else "enet"})
    with pytest.raises(UsageError, match=r"^enet is trained on camvid/train, .* holdout tail: give --holdouts val$"):
        train(given)


def test_what_a_network_has_seen_is_followed_through_starts_teachers_and_releases() -> None:
    def trained(data: str, split: str, **before: object) -> dict[str, object]:
        return {"data": data, "split": split, **before}

    clean = trained("camvid", "fit", init={"recipe": trained("scenes", "train")}, teachers=[{"name": "of old"}])
    assert seen_split(clean, "camvid", "tail") is None
    assert seen_split(clean, "camvid-full", "train") == "camvid/fit"
    for key, before in (("init", {"recipe": trained("camvid32", "tail")}),
                        ("teachers", [{"recipe": clean}, {"recipe": trained("camvid32", "tail")}])):  # fmt: skip
        assert seen_split({**clean, key: before}, "camvid", "tail") == "camvid32/tail"
    assert seen_split({}, "camvid", "tail") is None
    assert seen_split(trained("mine.own", "train"), "camvid", "train") is None


@pytest.mark.parametrize("dilation", [2, 6, 12])
def test_bf16_gradients_of_dilated_depthwise_convolutions_are_those_of_float32(dilation: int) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(64, 64, 3, padding=dilation, dilation=dilation, groups=64, bias=False)
    network = torch.nn.Sequential(layer).to(memory_format=torch.channels_last)
    keep_gradients_true(network)
    x = torch.randn(2, 64, 16, 32).to(memory_format=torch.channels_last)
    gradients = []
    for enabled in (True, False):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            network(x).float().square().mean().backward()
        gradients.append(layer.weight.grad.clone())
    low, full = gradients
    assert (low - full).abs().max() < 0.02 * full.abs().max()


def test_a_run_goes_on_only_with_the_settings_it_was_begun_with(root: Path, tmp_path: Path) -> None:
    given = {"epochs": 2, "holdouts": ("val",)}
    train(config(root, tmp_path, **given))
    before = (tmp_path / "best.safetensors").read_bytes()
    for changes, name in (
        ({"lr": 0.1}, r"lr \(0.002, now 0.1\)"), ({"epochs": 1}, "epochs"), ({"model": "enet-encoder"}, "model"),
        ({"split": "val", "holdouts": ("train",)}, "split"), ({"init": "enet"}, "init"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"begun with another {name}.*another --output"):
            train(config(root, tmp_path, **{**given, **changes}))
    assert (tmp_path / "best.safetensors").read_bytes() == before
    train(config(root, tmp_path, **given, validate_every=2, compile=False))


def test_a_run_goes_on_only_with_its_teachers_its_start_and_its_pictures(tmp_path: Path) -> None:
    mine, other = (
        make_folder(tmp_path / name, [f"{name}_{index}" for index in range(5)]) for name in ("mine", "alien")
    )
    labels, _ = read_classes(mine)
    artifact = quick_export(lively("tiny", {"classes": 3}), "tiny", tmp_path, labels=labels, train_size=(32, 32))
    network = str(tmp_path / "tiny.onnx")
    given = {"data": "folder", "epochs": 1, "model": "tiny", "teacher": (network,), "init": network}
    train(config(mine, tmp_path / "run", **given))
    artifact.save_card(artifact.card.with_figures("fp32", {"folder/val": {"miou": 0.5}}))  # like `rtseg eval --enter`
    train(config(mine, tmp_path / "run", **given))
    sha256 = artifact.card.files["fp32"].sha256[:12]
    for root, changes, message in (
        (mine, {"teacher": ()}, rf"another teachers \(tiny {sha256}…, now None\)"),
        (mine, {"init": None}, rf"another init \(tiny {sha256}…, now None\)"),
        (other, {}, "another data set: other pictures or classes"),
    ):
        with pytest.raises(UsageError, match=message):
            train(config(root, tmp_path / "run", **{**given, **changes}))


def test_a_checkpoint_from_before_settings_named_their_pictures_goes_on(root: Path, tmp_path: Path) -> None:
    last = train(config(root, tmp_path, epochs=1)) / "last.ckpt"
    saved = load_tree(last)
    for name in ("data_set", "init", "teachers"):
        del saved["settings"][name]
    save_tree(saved, last)
    train(config(root, tmp_path, epochs=1))
    saved["settings"]["pictures"] += 1
    save_tree(saved, last)
    with pytest.raises(UsageError, match="another pictures"):
        train(config(root, tmp_path, epochs=1))


def test_the_last_epoch_is_validated_whatever_the_interval(root: Path, tmp_path: Path) -> None:
    train(config(root, tmp_path, epochs=3, validate_every=2))
    with (tmp_path / "curves" / "version_0" / "metrics.csv").open() as file:
        scored = [int(row["epoch"]) for row in csv.DictReader(file) if row["holdout_miou"]]
    assert scored == [1, 2]


def test_an_output_that_cannot_be_made_is_told_first(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write in folder"):
        train(config(root, tmp_path / "file" / "run"))


@pytest.mark.parametrize("options", [{}, {"boundary": 2.0}, {"ohem": 0.3}])
def test_pictures_without_labels_cost_nothing(options: dict[str, float]) -> None:
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 8, 8), 11), torch.ones(3), 11, **options)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_labelled_pixel_is_told_first(tmp_path: Path, split: str) -> None:
    for name in ("train", "val"):
        make_camvid(tmp_path / "camvid", NAMES[:4], name)
    for mask in (tmp_path / "camvid" / f"{split}annot").iterdir():
        cv2.imwrite(str(mask), np.full_like(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE), 11))
    with pytest.raises(InputError, match=f"^split {split} of camvid has no labelled pixel"):
        train(config(tmp_path / "camvid", tmp_path / "run", split="train", holdouts=("val",)))


def test_too_few_pictures_for_a_batch_are_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^8 pictures make no batch of 9: give --batch-size 8 or less$"):
        train(config(root, tmp_path, batch_size=9, split="train", holdouts=("val",)))
    with pytest.raises(
        UsageError, match=r"^2 pictures make no batch of 1 for each of 3 processes: .* fewer --devices$"
    ):
        EpochSampler(2, 0, 1, 0, 3)


def test_street_scenes_alone_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.datasets.scenes._SEEDS", {"train": (1000, 2), "val": (0, 1)})
    given = config(tmp_path, tmp_path / "run", data="scenes", scenes=None, epochs=1)
    train(given)
    recipe = json.loads((tmp_path / "run" / "best.json").read_text())["recipe"]
    assert (recipe["data"], recipe["split"], recipe["scenes"]) == ("scenes", "train", 0)


def test_a_loss_that_is_not_finite_ends_the_run(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smaller --lr"):
        train(config(root, tmp_path, lr=1e30, epochs=3))


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
    assert (labels.shape, labels.dtype) == ((32, 32), torch.uint8)
    two[5, 1]  # earlier reads must not matter
    assert torch.equal(two[0, 2][0], image)
    assert not torch.equal(one[1, 2][0], image)
    assert labels.max() <= 11


def test_half_of_another_pictures_classes_are_pasted_whole() -> None:
    rng = np.random.default_rng(0)
    labels, other_labels = rng.integers(0, 3, (20, 30), np.uint8), rng.integers(4, 9, (20, 30), np.uint8)
    other_labels[:5] = 11  # unlabelled
    image, other = np.full((20, 30, 3), 10, np.uint8), np.full((20, 30, 3), 200, np.uint8)
    mixed, mixed_labels = paste_classes(image, labels, other, other_labels, 11, rng)
    pasted = mixed_labels >= 4
    chosen = set(mixed_labels[pasted].tolist())
    assert len(chosen) == 3
    assert 11 not in chosen
    assert np.array_equal(pasted, np.isin(other_labels, list(chosen)))
    assert np.array_equal(mixed_labels, np.where(pasted, other_labels, labels))
    assert np.array_equal(mixed, np.where(pasted[..., None], other, image))
    assert image.max() == 10
    assert labels.max() == 2


def test_a_picture_without_labels_pastes_nothing() -> None:
    image, labels = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    mixed, mixed_labels = paste_classes(image, labels, image + 1, labels + 11, 11, np.random.default_rng(0))
    assert not mixed.any()
    assert not mixed_labels.any()


def test_class_mix_is_that_share_of_the_samples_and_follows_from_the_seed(root: Path, tmp_path: Path) -> None:
    data = open_data("camvid", root, "train")
    plain, half, again = (TrainingSet(config(root, tmp_path, class_mix=mix), data) for mix in (0.0, 0.5, 0.5))
    keys = [(epoch, index) for epoch in range(20) for index in range(len(data))]
    changed = sum(not torch.equal(plain[key][0], half[key][0]) for key in keys) / len(keys)
    assert 0.35 < changed < 0.65
    assert all(torch.equal(one, two) for one, two in zip(half[3, 1], again[3, 1], strict=True))


def test_loader_mixes_street_scenes_and_shuffles_by_epoch(root: Path, tmp_path: Path) -> None:
    loader = training_loader(config(root, tmp_path, scenes=0.25), open_data("camvid", root, "train"))
    assert len(loader.dataset) == 10  # type: ignore[arg-type]
    sampler = loader.sampler
    first = list(sampler)
    sampler.set_epoch(1)  # type: ignore[attr-defined]
    assert sorted(index for _, index in sampler) == list(range(10))
    assert [index for _, index in sampler] != [index for _, index in first]


def test_street_scenes_are_added_only_to_their_own_classes(root: Path, tmp_path: Path) -> None:
    data = open_data("camvid", root, "train")
    assert share_of_scenes(config(root, tmp_path, scenes=None), data) == 0.15
    assert share_of_scenes(config(root, tmp_path, scenes=0.0), data) == 0
    data.labels = LabelSet("two", ("road", "other"), ((1, 1, 1), (2, 2, 2)))
    assert share_of_scenes(config(root, tmp_path, scenes=None), data) == 0
    with pytest.raises(UsageError, match="other classes than camvid"):
        share_of_scenes(config(root, tmp_path, scenes=0.2), data)


def test_large_pictures_without_a_train_size_are_spoken_of(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = open_data("camvid", root, "train")
    say_size(config(root, tmp_path), data)
    data.size_hw = (1024, 2048)
    say_size(config(root, tmp_path, train_size="512x1024"), data)
    assert not caplog.records
    say_size(config(root, tmp_path), data)
    assert "pictures' 1024x2048, with 6.8 times" in caplog.text
    assert "--train-size 512x1024" in caplog.text


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


def test_boundary_term_weighs_the_pixels_near_a_border_and_keeps_the_size_of_the_loss() -> None:
    labels = torch.zeros(1, 12, 12, dtype=torch.long)
    labels[:, :, 6:] = 1
    assert near_border(labels, 11)[0, 0].tolist() == [False] * 4 + [True] * 4 + [False] * 4
    padded = functional.pad(labels, (3, 3, 3, 3), value=11)
    assert not near_border(padded, 11)[:, :, [0, 2, 3, 4, 12, 15]].any()
    assert torch.equal(near_border(padded, 11)[:, 3:-3, 3:-3], near_border(labels, 11))
    weights, sure, unsure = torch.tensor([0.5, 1.5]), torch.zeros(1, 2, 12, 12), torch.zeros(1, 2, 12, 12)
    sure[:, 0, :, :6] = sure[:, 1, :, 6:] = 9.0
    at_border, elsewhere = sure.clone(), sure.clone()
    at_border[..., 5:7] = elsewhere[..., :2] = 0.0
    plain = [float(segmentation_loss(x, labels, weights, 11)) for x in (at_border, elsewhere, unsure)]
    heavy = [float(segmentation_loss(x, labels, weights, 11, boundary=4.0)) for x in (at_border, elsewhere, unsure)]
    assert heavy[0] > plain[0]
    assert heavy[1] < plain[1]
    assert heavy[2] == pytest.approx(plain[2], rel=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """`lively("tiny", seed=5)`."""
    return quick_export(lively("tiny", seed=5), "tiny", tmp_path_factory.mktemp("teacher"), train_size=(32, 32))


@pytest.fixture(scope="module")
def teacher(exported: Artifact) -> str:
    return str(exported.file("fp32"))


@pytest.mark.parametrize("method", ["logits", "features"])
@pytest.mark.parametrize("kind", ["tiny", "smp"])
def test_a_student_approaches_its_teachers(method: str, kind: str, teacher: str, tmp_path: Path) -> None:
    path = teacher
    if kind == "smp":
        (tmp_path / "smp").mkdir()
        path = finished(lively("smp", SMALL["smp"]), "smp", tmp_path / "smp")
    (origin,) = find_teachers([path], CAMVID11.names)
    assert origin.name == kind
    networks = [origin.network()]
    student, teachers = lively("tiny", seed=9).train(), Teachers(networks)
    teaching = METHODS.get(method).of(TrainConfig(model="tiny")).build(student, networks)
    optimizer = torch.optim.Adam([*student.parameters(), *teaching.parameters()], 3e-3)
    terms = []
    for _ in range(60):
        term = teaching(network_batch(student, teachers))
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        terms.append(term.item())
    assert terms[-1] < 0.5 * terms[0]
    padding = torch.full((2, 32, 32), UNKNOWN)
    assert teaching(replace(network_batch(student, teachers), labels=padding)) == 0  # padding teaches nothing
    own = ["adapters.0.weight", "adapters.0.bias"] if method == "features" else []
    assert list(teaching.state_dict()) == own  # the teachers are neither trained nor saved
    assert all(parameter.grad is None for parameter in networks[0].parameters())


def test_identical_teachers_have_nothing_to_say(teacher: str) -> None:
    *teachers, student = (origin.network() for origin in find_teachers([teacher] * 3, CAMVID11.names))
    method = METHODS.get("logits").of(TrainConfig(model="tiny", temperature=3.0))
    assert method.build(student, teachers)(network_batch(student, Teachers(teachers))).abs() < 1e-5


@pytest.mark.parametrize("method", ["features", "gan,dml:peers=2"])
def test_compiling_fuses_student_teachers_and_peers(
    root: Path, tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    fused: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda called: fused.append(called) or called)
    train(config(root, tmp_path, epochs=1, teacher=(teacher, teacher), teaching=method, compile=True))
    student, *others = fused
    assert student.__name__ == "forward_train"
    networks = [type(call.__self__).__name__ for call in others]
    assert networks == ["TinyNet"] * 2 + ["ENet"] * 2 * ("dml" in method)


def test_teachers_must_know_the_classes(teacher: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="knows the classes of camvid11, not the 2"):
        find_teachers([teacher], ("road", "other"))
    with pytest.raises(UsageError, match="did you mean logits"):
        train(config(root, tmp_path, teacher=(teacher,), teaching="logit"))


def test_a_taught_run_names_its_teachers_in_the_card(root: Path, tmp_path: Path, teacher: str) -> None:
    options = {"teacher": (teacher,), "teaching": "features", "model": "enet", "lovasz": 0.5, "boundary": 1.0,
               "coarse_labels": True, "optimizer": "sgd", "deterministic": True}  # fmt: skip
    folder = train(config(root, tmp_path / "taught", epochs=1, **options))
    recipe = json.loads((folder / "best.json").read_text())["recipe"]
    assert [taught["name"] for taught in recipe["teachers"]] == ["tiny"]
    assert (recipe["teaching"], recipe["lovasz"], recipe["optimizer"]) == ("features", 0.5, "sgd")


def test_deterministic_runs_give_the_same_bits(root: Path, tmp_path: Path) -> None:
    options = {"model": "pspnet", "encoder": "resnet18", "set": ("width=0.125", "channels=8"), "deterministic": True}
    one, two = (train(config(root, tmp_path / name, epochs=1, threads=2, **options)) for name in ("one", "two"))
    assert not torch.are_deterministic_algorithms_enabled()  # the caller's setting is restored
    assert (one / "best.safetensors").read_bytes() == (two / "best.safetensors").read_bytes()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="synchronised batch norm needs two GPUs")
def test_synchronised_batch_norm_sees_the_whole_batch(root: Path, tmp_path: Path) -> None:
    same = {"optimizer": "sgd", "lr": 0.05, "epochs": 1, "schedule": "poly", "precision": "fp32"}
    one = train(config(root, tmp_path / "one", **{**same, "batch_size": 4}))
    fields = {**TINY, **same, "root": str(root), "output": str(tmp_path / "two"), "devices": 2, "sync_batch_norm": True}
    script = tmp_path / "train_two.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, str(script), json.dumps(fields)], check=True, timeout=1200)
    ours, theirs = load_tree(tmp_path / "two" / "last.ckpt"), load_tree(one / "last.ckpt")
    for name, value in theirs["state_dict"].items():
        np.testing.assert_allclose(ours["state_dict"][name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_enet_goes_on_from_its_encoder(tmp_path: Path) -> None:
    """The two stages of the paper: everything but the classifier and the decoder is taken over."""
    encoder = lively("enet-encoder")
    init = finished(encoder, "enet-encoder", tmp_path)
    network = build_model("enet", {})
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    start_from(network, find_origin(init))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, fresh[name])}
    assert {name.split(".")[0] for name in changed} == {"initial", "down1", "section1", "down2", "section2", "section3"}
    assert torch.equal(network.section3[7].residual[0].weight, encoder.section3[7].residual[0].weight.half().float())


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


@pytest.mark.figures
def test_a_run_leaves_weights_card_curves_and_pictures(root: Path, tmp_path: Path) -> None:
    folder = train(config(root, tmp_path / "run", epochs=1, validate_every=5))
    card = json.loads((folder / "best.json").read_text())
    assert set(card["metrics"]) == {"camvid/val", "camvid/tail"}
    assert card["recipe"]["epochs_done"] == 1
    state = load_tree(folder / "best.safetensors")
    model = build_model(card["model"], card["config"])
    assert set(state) == set(model.state_dict())
    assert all(value.dtype == torch.float16 for value in state.values() if value.ndim > 1)
    pictures = ["samples_0001.png", "confusion_val.png", "confusion_tail.png", "report/curves.png"]
    pictures += [f"report/{kind}_{split}.png" for kind in ("confusion", "best", "worst") for split in ("val", "tail")]
    for picture in pictures:
        assert (folder / picture).stat().st_size > 1000, picture
    assert json.loads((folder / "report/card.json").read_text()) == card
    assert len(losses(folder)) == 1


def test_the_report_shows_the_worst_and_the_best_frames(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Of eight pictures, the later ones have better predictions."""
    data = open_data("camvid", root, "train")
    truths = [sample.labels for sample in data]

    def predict(task: SegmentationTask, image: np.ndarray, size_hw: Size) -> np.ndarray:
        index = next(index for index, sample in enumerate(data) if np.array_equal(sample.image, image))
        rows = index * len(truths[index]) // len(truths)
        return np.vstack([truths[index][:rows], (truths[index][rows:] + 1) % 11])

    monkeypatch.setattr(SegmentationTask, "predict", predict)
    monkeypatch.setattr(summary, "drawn", lambda data, index, task: np.full((1, 1, 3), index, np.uint8))
    folder = train(config(root, tmp_path, epochs=1, split="val", holdouts=("train",), batch_size=1))
    for kind, indices in (("worst", [0, 1, 2, 3]), ("best", [7, 6, 5, 4])):
        assert cv2.imread(str(folder / "report" / f"{kind}_train.png"))[:, 0, 0].tolist() == indices


def test_the_time_that_a_run_still_takes_follows_from_its_pace() -> None:
    assert time_left(60.0, 30, 1800) == "1:00:00"
    assert time_left(1.0, 0, 10) == ""


def test_a_folder_of_ones_own_trains_with_its_own_classes(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "mine", [f"f_{index}" for index in range(5)])  # four to train on, one held out
    folder = train(config(data, tmp_path / "run", data="folder", epochs=1))
    card = json.loads((folder / "best.json").read_text())
    assert card["labels"]["names"] == ["grass", "path", "shed"]
    assert card["config"]["classes"] == 3
    assert set(card["metrics"]) == {"folder/val"}
    assert (card["recipe"]["split"], card["recipe"]["holdouts"]) == ("train", ["val"])
    assert cv2.imread(str(folder / "samples_0001.png")).shape == (48, 3 * 64, 3)  # val's only picture, once
    steps = load_tree(folder / "last.ckpt")["global_step"]
    assert steps == 2
    assert len(losses(folder)) == 1


def test_a_run_on_mixed_sizes_is_scored_as_eval_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first picture of each split is a thumbnail: it affects neither the card nor the scores."""
    data = make_folder(tmp_path / "mine", ["train/0", "val/0"], (16, 24))
    make_folder(data, [f"{split}/{index}" for split in ("train", "val") for index in (1, 2)], (96, 128))
    make_folder(data, ["train/3"], (192, 256))
    sizes: list[tuple[int, int]] = []

    def predict(task: SegmentationTask, image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        sizes.append(size_hw)
        return plain(task, image, size_hw)

    plain = SegmentationTask.predict
    monkeypatch.setattr(SegmentationTask, "predict", predict)
    register_tiny()
    folder = train(config(data, tmp_path / "run", data="folder", model="tiny", epochs=1))
    assert json.loads((folder / "best.json").read_text())["train_size"] == [96, 128]
    network = load(ExportOptions(checkpoint=folder / "best.safetensors"))
    quick_export(network.model, "tiny", tmp_path, labels=network.labels, **network.card)
    figures = score(EvalOptions(model=str(tmp_path / "tiny.onnx"), data="folder", root=data, engine="onnxruntime"))
    assert set(sizes) == {tuple(figures["size"])} == {(96, 128)}
    assert figures["miou"] == pytest.approx(network.card["metrics"]["fp32"]["folder/val"]["miou"], abs=0.005)


def test_init_starts_from_an_exported_network(exported: Artifact) -> None:
    trained = lively("tiny", seed=5)
    same, fewer = (build_model("tiny", {"classes": classes}) for classes in (11, 5))
    origin = find_origin(str(exported.file("fp32")))
    assert start_from(same, origin).identity()["sha256"] == exported.card.files["fp32"].sha256
    for name, value in trained.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(same.state_dict()[name], value.half().float() if value.ndim > 1 else value), name
    start_from(fewer, origin)
    assert torch.equal(fewer.state_dict()["first.0.weight"], same.state_dict()["first.0.weight"])
    with pytest.raises(UsageError, match="their trunks are not the same"):
        start_from(build_model("enet", {}), origin)


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        ("icnet", {"width": 1.0}, r"has \S+ as \(.*\) instead of \(.*\): leave --set width out"),
        ("deeplabv3", {"width": 0.5}, r"has \S+ as \(.*\) instead of \(.*\): leave --set width out"),
        ("deeplabv3", {"encoder": "resnet34"}, r"lacks encoder\.\S+: leave --encoder out"),
    ],
)
def test_init_with_fields_that_do_not_fit_is_refused(model: str, fields: dict[str, object], message: str) -> None:
    network = build_model(model, {**resolve(model).card.config, **fields})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UsageError, match=message):
        start_from(network, find_origin(model))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_starts_fresh_is_told_once(tmp_path: Path, teacher: str, caplog: pytest.LogCaptureFixture) -> None:
    mine = make_folder(tmp_path / "mine", [f"f_{index}" for index in range(5)])
    train(config(mine, tmp_path / "run", data="folder", model="tiny", epochs=1, init=teacher))
    told = [record.getMessage() for record in caplog.records if "start fresh" in record.getMessage()]
    assert told == [f"{teacher} has no fitting weights for classifier: they start fresh"]
    assert start_from(build_model("tiny", {}), find_origin(teacher)).told() is None


def test_init_from_another_architecture_takes_its_trunk(tmp_path: Path) -> None:
    icnet = lively("icnet", {"width": 0.125})
    path = finished(icnet, "icnet", tmp_path)
    network = build_model("pspnet", {"deep_stem": True, "width": 0.25})  # with a trunk half as wide
    before = {name: value.clone() for name, value in network.state_dict().items()}
    origin = find_origin(path)
    assert start_from(network, origin).identity()["part"] == "trunk"
    after = network.state_dict()
    assert {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])} == {"encoder"}
    picture, network = torch.rand(1, 3, 64, 64), network.eval()
    with torch.no_grad():  # while their strides are the same, they compute the same
        expected = icnet.shared[:3](icnet.stem[:3](picture))
        found = network.encoder.layer1(network.encoder.stem(picture))
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()
    with pytest.raises(UsageError, match="their trunks are not the same"):
        start_from(build_model("pspnet", {"deep_stem": False, "width": 0.25}), origin)


def test_the_copied_trunk_of_icnet_starts_as_the_trunk() -> None:
    trunk = {"encoder": "mobilenet_v3_small"}
    source = lively("pspnet", trunk | {"channels": 8})
    network = build_model("icnet", trunk | {"width": 0.125, "high": "trunk", "shared_stride": 16, "detail": True})
    take_trunk(network, source)
    layers = source.encoder.stages.state_dict()
    for part in (network.shared, network.high):
        own = part.state_dict()
        assert own
        assert all(torch.equal(value, layers[name]) for name, value in own.items())


def test_dilated_networks_share_their_trunk(tmp_path: Path) -> None:
    trunk = {"encoder": "resnet18", "width": 0.125, "deep_stem": True}
    source = lively("pspnet", trunk | {"channels": 8})
    network = build_model("deeplabv3", trunk | {"channels": 8, "multi_grid": (1, 2)})
    assert start_from(network, find_origin(finished(source, "pspnet", tmp_path))).only_trunk
    given = source.encoder.state_dict()
    assert all(torch.equal(value, half(given[name]).float()) for name, value in network.encoder.state_dict().items())


def test_init_brings_its_architecture(tmp_path: Path) -> None:
    network = lively("pspnet", {"encoder": "resnet18", "width": 0.125, "channels": 8, "output_stride": 16})
    init = finished(network, "pspnet", tmp_path)
    own = {name: value for name, value in network.config_json().items() if name != "pretrained"}
    origin = find_origin(init)
    assert architecture(TrainConfig(model="pspnet"), origin) == own
    changed = architecture(TrainConfig(model="pspnet", set=("output_stride=8",)), origin)
    assert changed == {**own, "output_stride": 8}
    assert architecture(TrainConfig(model="deeplabv3"), origin) == {}
    start_from(build_model("pspnet", {**changed, "classes": 3}), origin)


KILLED = """
import os, signal
from rtseg.training.task import SegmentationTask
plain = SegmentationTask.training_step
def step_or_die(task, pair, number):
    if (task.current_epoch, number) == (1, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(task, pair, number)
SegmentationTask.training_step = step_or_die
"""


def test_killed_run_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    """After SIGKILL the same command yields the curve and the weights of an uninterrupted run."""
    epochs = 2
    whole = train(config(root, tmp_path / "whole", epochs=epochs))
    killed = tmp_path / "killed"
    fields = {**TINY, "root": str(root), "output": str(killed), "epochs": epochs}
    done = subprocess.run([sys.executable, "-c", KILLED + SCRIPT, json.dumps(fields)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load_tree(killed / "last.ckpt")["epoch"] == 0
    train(config(root, killed, epochs=epochs))
    with (killed / "curves" / "version_1" / "metrics.csv").open() as file:
        assert {int(row["epoch"]) for row in csv.DictReader(file)} == {1}
    np.testing.assert_allclose(losses(killed), losses(whole)[-len(losses(killed)) :], rtol=1e-4)
    ours, theirs = load_tree(killed / "last.ckpt"), load_tree(whole / "last.ckpt")
    for name, value in theirs["state_dict"].items():
        np.testing.assert_allclose(ours["state_dict"][name].numpy(), value.numpy(), rtol=1e-4, atol=1e-5)


def test_ctrl_c_ends_a_run_as_interrupted(root: Path, tmp_path: Path) -> None:
    command = f"train --model enet --root {root} --output {tmp_path} --crop 32x32 --batch-size 2 --workers 0 --scenes 0"
    process = subprocess.Popen([sys.executable, "-m", "rtseg.apps.main", *command.split()], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    wait_for_file(tmp_path / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 130
    assert errors.replace("\n", "").endswith(f"stopped: the same command resumes from {tmp_path}")
