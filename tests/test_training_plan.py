"""Decisions before the first step, and adding a teaching method."""

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SMALL, lively
from torch import Tensor
from training_runs import config, finished

from rtseg.core.errors import UsageError
from rtseg.models import SegmentationModel
from rtseg.training.checkpoint import load_tree
from rtseg.training.config import TrainConfig
from rtseg.training.distill import METHODS
from rtseg.training.distill.base import Batch, MethodConfig, Teaching, channels_of
from rtseg.training.plan import make_plan
from rtseg.training.run import construct, train

pytestmark = pytest.mark.slow

SPLITS = {"split": "train", "holdouts": ("val",)}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return finished(lively("tiny", seed=5), "tiny", tmp_path_factory.mktemp("teacher"))


class CoarseTeaching(Teaching):
    """Features at stride 4 approach the teacher's, through an adapter."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.adapter = torch.nn.Conv2d(inputs, outputs, 1)

    def forward(self, batch: Batch) -> Tensor:
        ((_, theirs),) = batch.seen
        return (self.adapter(batch.student.features["encoder/4"]) - theirs["encoder/4"]).square().mean()


@dataclass(frozen=True)
class CoarseConfig(MethodConfig):
    temperature: float = 0.0
    weight: float = 0.5

    def build(self, student: SegmentationModel, teachers: Sequence[SegmentationModel]) -> Teaching:
        return CoarseTeaching(channels_of(student, "encoder/4"), channels_of(teachers[0], "encoder/4"))


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    METHODS.add("coarse", f"{__name__}:CoarseConfig")
    return "coarse"


def test_a_way_of_teaching_is_one_class_and_one_line(camvid: Path, tmp_path: Path, teacher: str, coarse: str) -> None:
    """Its config takes the run's options; its layers are trained, kept for a resume, and do not ship."""
    given = config(camvid, tmp_path, epochs=1, teacher=(teacher,), teaching=coarse, temperature=3.0, **SPLITS)
    plan = make_plan(given)
    assert plan.methods == {coarse: CoarseConfig(temperature=3.0)}
    fresh = construct(plan)[0].state_dict()
    trained = load_tree(train(given) / "last.ckpt")["current_model_state"]
    name = "teaching.coarse.adapter.weight"
    assert trained[name].shape == (16, 64, 1, 1)
    assert not torch.equal(trained[name], fresh[name])
    assert not any("teach" in key for key in load_tree(tmp_path / "best.safetensors"))


def test_features_that_a_network_lacks_are_told(camvid: Path, tmp_path: Path, teacher: str, coarse: str) -> None:
    network = {"model": "icnet", "set": ("width=0.125",)}
    given = config(camvid, tmp_path / "run", teacher=(teacher,), teaching=coarse, **network, **SPLITS)
    with pytest.raises(UsageError, match=r"^ICNet has no features 'encoder/4', only medium, .*, last: choose another"):
        train(given)
    assert not (tmp_path / "run").exists()


def test_a_plan_is_whole_and_stays_as_it_is(
    camvid: Path, tmp_path: Path, teacher: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The plan says how far an earlier start got, and building from it twice gives the same."""
    given = config(camvid, tmp_path, epochs=1, teacher=(teacher,), teaching="features", train_size="48x64", **SPLITS)
    plan = make_plan(given)
    assert (plan.epochs_done, plan.checkpoint, plan.finished) == (0, None, False)
    assert (plan.config.scenes, plan.config.data, plan.train_size, plan.precision) == (0, "camvid", (48, 64), "fp32")
    assert list(plan.lineage) == ["teachers"]
    with pytest.raises(FrozenInstanceError):
        plan.cycle_from = 1  # type: ignore[misc]
    one, two = (construct(plan)[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    train(given)
    done, longer = make_plan(given), make_plan(config(camvid, tmp_path, **{**_given(given), "epochs": 3}))
    assert (done.epochs_done, done.finished) == (1, True)
    assert (longer.epochs_done, longer.cycle_from, longer.finished) == (1, 1, False)
    assert longer.checkpoint == tmp_path / "last.ckpt"


def _given(options: TrainConfig) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ("root", "output")}


@pytest.mark.parametrize("name", list(SMALL))
def test_networks_name_their_features(name: str) -> None:
    """The classifier's input is among them; an encoder's features are named by their strides."""
    model = lively(name, SMALL[name])
    size = 2 * model.size_multiple
    with torch.no_grad():
        logits, features = model.logits_and_features(torch.randn(1, 3, size, size))
        assert torch.equal(model.classify({"last": features["last"]}), logits)
    assert {found: channels_of(model, found) for found in features} == {k: v.shape[1] for k, v in features.items()}
    coarsest = getattr(model.config, "output_stride", 32)
    for found, value in features.items():
        if found.startswith("encoder/"):
            assert value.shape[-1] == size // min(int(found.removeprefix("encoder/")), coarsest)
