"""Teaching methods with real networks: what learns from what, what runs, and how runs resume."""

import csv
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from camvid_tree import NAMES, make_camvid, small_camvid
from teaching_batches import network_batch
from tiny import SMALL, lively
from training_runs import config, finished, stopped

from rtseg.core.errors import UsageError, WeightsError
from rtseg.models import SegmentationModel
from rtseg.training.checkpoint import load_tree
from rtseg.training.config import TrainConfig
from rtseg.training.distill import METHODS
from rtseg.training.distill.base import channels_of
from rtseg.training.distill.lessons import Lessons, methods_of
from rtseg.training.distill.teachers import Teachers
from rtseg.training.plan import make_plan
from rtseg.training.run import construct, train

pytestmark = pytest.mark.slow

SPLITS = {"split": "train", "holdouts": ("val",)}
TAUGHT = [name for name in METHODS if METHODS.get(name).has_teacher]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_camvid(tmp_path_factory, 4, 1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return finished(lively("tiny", seed=5), "tiny", tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def others() -> list[SegmentationModel]:
    """Teachers with other sizes and channels than the student."""
    return [lively(kind, SMALL[kind], seed=5) for kind in ("smp", "swiftnet")]


def lessons_of(text: str, student: SegmentationModel, teachers: Sequence[SegmentationModel] = ()) -> Lessons:
    given = TrainConfig(model="tiny", teaching=text, teacher=tuple("x" for _ in teachers))
    return Lessons(methods_of(given), student, Teachers(teachers))


def value_of(lessons: Lessons, student: SegmentationModel) -> torch.Tensor:
    value: torch.Tensor = lessons(network_batch(student, lessons.teachers), 1.0)
    return value


@pytest.mark.parametrize("method", list(METHODS))
def test_the_student_learns_and_its_teachers_do_not(method: str, others: list[SegmentationModel]) -> None:
    """A method's own layers all learn, too."""
    teachers = others if method in TAUGHT else []
    student = lively("tiny", seed=9).train()
    lessons = lessons_of(method, student, teachers).train()
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in teachers]
    batch = network_batch(student, lessons.teachers)
    made = lessons.make(batch.images)
    if made is not None:
        batch = replace(batch, images=made.images, labels=made.labels)
    value = lessons(batch, 1.0) + (0 if made is None else made.loss)
    assert value.isfinite()
    value.backward()
    if method not in ("bss", "grafting"):  # bss counts only pixels where both are right; grafting has no term
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())
    for name, parameter in lessons.named_parameters():
        assert parameter.grad is not None, name
    for network, state in zip(teachers, before, strict=True):
        assert all(parameter.grad is None for parameter in network.parameters())
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("method", ["logits", "mimic", "cwd", "at", "sp", "cc", "rkd", "pkt", "nst", "ifvd", "bss"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(method: str) -> None:
    student, teacher = (lively("tiny", seed=5) for _ in range(2))
    assert value_of(lessons_of(method, student, [teacher]), student).item() == pytest.approx(0, abs=2e-5)


def test_what_is_taught_at_the_borders_reaches_the_student() -> None:
    """Where both are right: the labels are the teacher's own, and the student's batch norms see the batch."""
    teacher, student = lively("tiny", seed=5), lively("tiny", seed=5).train()
    lessons = lessons_of("bss", student, [teacher])
    batch = network_batch(student, lessons.teachers)
    batch = replace(batch, labels=batch.seen[0][0].argmax(1))
    value = lessons(batch, 1.0)
    value.backward()
    assert value > 0
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("method", ["features", "fitnet", "vid", "ft", "ab", "fsp", "mimic:bottleneck=8"])
def test_what_a_method_learns_itself_brings_the_student_closer(method: str) -> None:
    student, teacher = lively("tiny", seed=9).train(), lively("tiny", seed=5)
    lessons = lessons_of(f"{method},logits", student, [teacher])
    optimizer = torch.optim.Adam([*student.parameters(), *lessons.parameters()], 3e-3)
    values = []
    for _ in range(25):
        value = value_of(lessons, student)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.95 * values[0]


@pytest.mark.parametrize("kind", ["icnet", "swiftnet", "pspnet", "enet"])
def test_early_exits_are_the_networks_own_where_it_has_some(kind: str) -> None:
    student = lively(kind, SMALL[kind]).train()
    lessons = lessons_of("byot", student)
    own = {name.split(".")[1] for name in lessons.state_dict()}
    assert own == ({"hints", "exits"} if kind == "enet" else {"hints"})
    batch = network_batch(student, lessons.teachers, size=64)
    (lessons(batch, 1.0)).backward()
    assert batch.student.logits.grad_fn is not None
    assert student.classifier.weight.grad is None  # the last exit teaches and does not learn
    early = [name for name, p in student.named_parameters() if p.grad is not None and p.grad.any()]
    assert any(name.startswith("auxiliary") for name in early) == (kind != "enet")


def test_weights_and_stages() -> None:
    """A method's own weight and the run's multiply; after its share of the epochs, a method adds nothing."""
    student, teacher = lively("tiny", seed=9), lively("tiny", seed=5)
    batch = network_batch(student, Teachers([teacher]))
    alone = lessons_of("logits", student, [teacher])(batch, 1.0)
    assert lessons_of("logits:weight=3", student, [teacher])(batch, 0.5).item() == pytest.approx(1.5 * alone.item())
    staged = lessons_of("fitnet:until=0.5,logits", student, [teacher])
    early, late = (staged(replace(batch, progress=done), 1.0) for done in (0.49, 0.5))
    late.backward()
    assert early > late
    assert late.item() == pytest.approx(alone.item())
    assert set(staged.values) == {"logits"}
    assert all(parameter.grad is not None for parameter in staged.parameters())  # DDP expects that


def test_pairs_of_features_are_named() -> None:
    student, teacher = lively("tiny"), lively("swiftnet", SMALL["swiftnet"])
    lessons = lessons_of("fitnet:features=encoder/4+last+logits:theirs=encoder/8+last+logits", student, [teacher])
    shapes = [tuple(value.shape[:2]) for name, value in lessons.named_parameters() if value.ndim > 1]
    assert shapes == [(channels_of(teacher, "encoder/8"), 16), (channels_of(teacher, "last"), 16), (11, 11)]
    assert value_of(lessons, student).isfinite()


@pytest.mark.parametrize(
    ("teaching", "teachers", "message"),
    [
        ("at:powr=2", 1, r"^unknown field of at 'powr': did you mean power\? allowed: weight, until, features"),
        ("at:power=x", 1, r"^--teaching at:power is 'x': it takes a number$"),
        ("sp:items=2.5", 1, r"^--teaching sp:items is '2.5': it takes a whole number$"),
        ("cwd:temperature=0", 1, r"^--teaching cwd: temperature is 0.0: allowed is 0.1 to 100$"),
        ("logits:until=0", 1, r"until is 0.0: allowed is 0.001 to 1$"),
        ("dafl:until=0.5", 1, r"until is 0.5: allowed is 1 to 1$"),
        ("cwd", 0, r"^--teaching cwd needs a network that teaches: give --teacher NAME, or a method without one"),
        ("byot,dml", 1, r"^--teaching byot,dml has no use for a teacher: leave --teacher out, or add a method"),
        ("at:features=encoder/8", 1, r"^TinyNet has no features 'encoder/8', only encoder/4, last: choose another"),
        ("at:features=last:theirs=encoder/4+last", 1, r"name 1 and 2 features: name as many in both$"),
        ("fsp:features=last", 1, r"^fsp compares two features with two, not last with last: name two"),
    ],
)
def test_what_does_not_fit_is_told(teaching: str, teachers: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lessons_of(teaching, lively("tiny"), [lively("tiny")] * teachers)


def test_a_broken_teacher_is_told_before_the_first_step(root: Path, tmp_path: Path, teacher: str) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("best.json", "best.safetensors"):
        content = Path(teacher).with_name(name).read_bytes()
        (broken / name).write_bytes(content if name == "best.json" else content[:-100])
    given = config(root, tmp_path / "run", model="tiny", teacher=(str(broken / "best.safetensors"),), teaching="cwd",
                   **SPLITS)  # fmt: skip
    with pytest.raises(WeightsError, match="damaged"):
        train(given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", list(METHODS))
def test_the_docs_name_a_methods_own_fields(method: str) -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{method}` |")]
    own = [field.name for field in fields(METHODS.get(method))]
    shared = ("weight", "until", "features", "theirs", "compile")
    assert row.split("|")[-2].replace("`", "").replace(",", "").split() == [name for name in own if name not in shared]


def options(teacher: str, methods: Sequence[str]) -> dict[str, Any]:
    taught = (teacher,) if any(method in TAUGHT for method in methods) else ()
    return {"model": "tiny", "teacher": taught, "teaching": ",".join(methods), "validate_every": 2, **SPLITS}


def stopped_run(given: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stopped in the second epoch, then resumed."""
    stopped(given, monkeypatch, 1, 1)
    return train(given)


def same_ends(one: Path, other: Path) -> dict[str, Any]:
    """The state of a run's task, after a bit-by-bit comparison with another run's."""
    ours, theirs = (load_tree(folder / "last.ckpt") for folder in (one, other))
    for state in ("state_dict", "current_model_state"):
        for name, value in theirs[state].items():
            assert torch.equal(ours[state][name], value), name
    return ours["current_model_state"]  # type: ignore[no-any-return]


def test_a_stopped_run_goes_on_with_all_that_its_methods_have_learned(
    root: Path, tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every method but `dafl` in one run. Adapters, peers and discriminator end with the same bits, and do not ship."""
    methods = [name for name in METHODS if name != "dafl"]
    given = options(teacher, methods)
    whole = train(config(root, tmp_path / "whole", epochs=2, **given))
    state = same_ends(stopped_run(config(root, tmp_path / "stopped", epochs=2, **given), monkeypatch), whole)
    learned = {name.split(".")[1] for name in state if name.startswith("teaching.")}
    assert learned == {"features", "fitnet", "vid", "ft", "ab", "fsp", "gan", "byot", "dml", "grafting"}
    assert set(load_tree(whole / "best.safetensors")) == set(lively("tiny").state_dict())
    with (whole / "curves" / "version_0" / "metrics.csv").open() as file:
        terms = next(row for row in csv.DictReader(file) if row.get("loss"))
    assert all(terms[f"term_{method}"] for method in methods)


def test_without_data_neither_pictures_nor_labels_are_looked_at(
    root: Path, tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two data sets of the same length yield the same bits, even if one run is stopped and resumed."""
    given = options(teacher, ["dafl", "cwd"])
    other = tmp_path / "other"
    make_camvid(other, NAMES[:4], size_hw=(64, 48))
    make_camvid(other, NAMES[20:21], "val")
    whole = train(config(other, tmp_path / "whole", epochs=2, **given))
    state = same_ends(stopped_run(config(root, tmp_path / "stopped", epochs=2, **given), monkeypatch), whole)
    assert any(name.startswith("teaching.dafl.generator") for name in state)


def test_peers_start_apart_and_meet_by_grafting(root: Path, tmp_path: Path) -> None:
    """After an epoch, two networks whose layers hold equal information have equal shares of both."""
    given = config(root, tmp_path, **options("", ["grafting:slope=0"]))
    task, _, _ = construct(make_plan(given))
    own = {name.removeprefix("model."): value.clone() for name, value in task.state_dict().items() if "model." in name}
    peer = {name.removeprefix("teaching.grafting.peers.0."): value.clone()
            for name, value in task.state_dict().items() if "peers.0" in name}  # fmt: skip
    assert set(own) == set(peer)
    assert not torch.equal(own["first.0.weight"], peer["first.0.weight"])
    task.teaching.after_epoch(task.model, 0.0)
    state = task.state_dict()
    for name, value in own.items():
        if value.is_floating_point():
            for place in (f"model.{name}", f"teaching.grafting.peers.0.{name}"):
                torch.testing.assert_close(state[place], (value + peer[name]) / 2)


def test_checkpoints_from_before_methods_were_named_are_read() -> None:
    """Adapter keys did not use to begin with the method's name."""
    student, teacher = lively("tiny", seed=9), lively("tiny", seed=5)
    lessons = lessons_of("features", student, [teacher])
    old = {"adapters.0.weight": torch.ones(16, 16, 1, 1), "adapters.0.bias": torch.ones(16)}
    lessons.load_state_dict(old)
    assert set(lessons.state_dict()) == {f"features.{name}" for name in ("adapters.0.weight", "adapters.0.bias")}
    assert all(value.eq(1).all() for value in lessons.state_dict().values())
