"""Several workers share videos; one that is killed costs nothing but its segment."""

import importlib.util
import os
import signal
from pathlib import Path
from time import sleep

import psutil
import pytest
from batch_runs import finished, kill_at, same_outputs, segments_in, start
from videos import make_video

import rtseg.batch.work
from rtseg.batch.cluster import RayPool
from rtseg.batch.crew import Crew, candidates, choose_crew
from rtseg.batch.jobs import Job
from rtseg.batch.plan import Choice
from rtseg.batch.pool import InlinePool, ProcessPool, WorkerLost
from rtseg.batch.run import Batch
from rtseg.batch.task import Look, SegmentDone, TaskFailed
from rtseg.core.errors import EngineError
from rtseg.core.weights import resolve

SAVE = ("overlay", "labels", "areas")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


class Watcher:
    """Calls `act` once, when so many frames were begun or an input was opened."""

    def __init__(self, act=None, frames=100):
        self.act, self.frames, self.begun, self.announced = act, frames, 0, []

    def opened(self, outcome): ...

    def ended(self, outcome): ...

    def loaded(self, event): ...

    def advanced(self, outcome, frames):
        self.begun += frames
        if self.act is not None and self.begun >= self.frames:
            act, self.act = self.act, None
            act()


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("drive") / "drive.mp4", 360, (64, 96), 10)


@pytest.fixture(scope="module")
def choice(tiny_model):
    return Choice(resolve(str(tiny_model)).card, str(tiny_model), "onnxruntime", "fp32", None, Look())


def label(source, out, choice, make_pool, watcher=None):
    batch = Batch([Job(source, out, SAVE)], choice, 1, watcher or Watcher())
    out.mkdir(exist_ok=True)
    (outcome,) = batch.run(make_pool)
    return outcome


@pytest.fixture(scope="module")
def alone(drive, choice, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    outcome = label(drive, out, choice, InlinePool)
    assert (outcome.done, outcome.frames, len(outcome.passes)) == (True, 360, 1)
    return out


@pytest.fixture(autouse=True)
def _short_tasks(monkeypatch):
    monkeypatch.setattr(rtseg.batch.work, "TASK_S", 6.0)


def test_a_worker_that_is_killed_costs_nothing(drive, alone, choice, tmp_path):
    pools = []

    def make_pool(handle):
        pools.append(ProcessPool(handle, 2))
        return pools[0]

    watcher = Watcher(lambda: os.kill(pools[0].processes[0], signal.SIGKILL), frames=1)
    outcome = label(drive, tmp_path / "out", choice, make_pool, watcher)
    assert watcher.act is None
    assert (outcome.done, outcome.frames) == (True, 360)
    assert any("a worker was lost" in note for note in outcome.notes)
    assert len(outcome.passes) >= 6
    same_outputs(alone, tmp_path / "out", "drive")


def test_what_kills_every_worker_fails_alone(choice, tmp_path):
    class Deadly(InlinePool):
        started = 0

        def start(self, task):
            if task.name == "deadly":
                self.started += 1
                self._handle(TaskFailed(task.job, WorkerLost("its worker is gone")))
            else:
                super().start(task)

    paths = [make_video(tmp_path / f"{name}.mp4", 10, (64, 96), 10) for name in ("deadly", "good")]
    pools = []
    batch = Batch([Job(path, tmp_path, ("labels",)) for path in paths], choice, 1, Watcher())
    first, second = batch.run(lambda handle: pools.append(Deadly(handle)) or pools[0])
    assert pools[0].started == 3
    assert "its worker is gone, 3 times" in str(first.error)
    assert (second.done, second.error) == (True, None)
    assert not (tmp_path / "deadly.partial").exists()


def test_the_batch_that_is_killed_takes_its_workers_along(drive, alone, tiny_model, tmp_path):
    out = tmp_path / "out"
    command = (drive, "--output", out, "--model", tiny_model, "--save", ",".join(SAVE), "--jobs", "2", "--threads", "1")
    process = start(*command)
    children: list[psutil.Process] = []
    assert kill_at(process, out / "drive.partial", 3, seed=1, note=lambda: children.extend(
        psutil.Process(process.pid).children(recursive=True)))  # fmt: skip
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    code, _, errors = finished(start(*command))
    assert code == 0, errors
    same_outputs(alone, out, "drive")


def test_a_seam_that_does_not_fit_is_made_again(drive, alone, choice, tmp_path, monkeypatch):
    """As where a container seeks to other pictures than it says, which shows when both sides of a seam are done."""
    changed = []

    class Doubtful(Batch):
        def _on(self, event):
            if isinstance(event, SegmentDone) and event.segment.number == 8 and not changed:
                changed.append(event)
                fields = {**vars(event), "before": (event.before or 0) ^ 1}
                event = SegmentDone(**fields)
            super()._on(event)

    out = tmp_path / "out"
    (outcome,) = Doubtful([Job(drive, out, SAVE)], choice, 1, Watcher()).run(lambda handle: ProcessPool(handle, 2))
    assert changed
    assert (outcome.done, outcome.frames) == (True, 360)
    same_outputs(alone, out, "drive")


def test_the_crew_is_measured(drive, choice, monkeypatch):
    assert [(crew.processes, crew.threads) for crew in candidates(8, None)] == [(1, 8), (2, 4), (4, 2), (8, 1)]
    assert [(crew.processes, crew.threads) for crew in candidates(8, 3)] == [(1, 3), (2, 3)]
    figures = {1: 10.0, 2: 10.2, 4: 14.0, 8: 20.0}
    monkeypatch.setattr(
        "rtseg.batch.crew.measure",
        lambda job, choice, crew: Crew(crew.processes, crew.threads, figures[crew.processes], 100),
    )
    monkeypatch.setattr("rtseg.batch.crew.free_memory", lambda: 10_000)
    assert choose_crew(Job(drive, Path(), SAVE), choice, 8).processes == 8
    monkeypatch.setattr("rtseg.batch.crew.free_memory", lambda: 600)
    assert choose_crew(Job(drive, Path(), SAVE), choice, 8).processes == 4
    assert choose_crew(Job(drive, Path(), SAVE), choice, 2).processes == 1


def test_a_dry_run_says_what_and_how_long_and_does_nothing(drive, tiny_model, tmp_path):
    out = tmp_path / "out"
    process = start(drive, tmp_path / "missing.mp4", "--output", out, "--model", tiny_model, "--dry-run", COLUMNS="160")
    code, output, errors = finished(process)
    assert (code, errors) == (0, "")
    for words in ("64x96", "360", "no such file", "fps, measured", "about "):
        assert words in output
    assert not out.exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.slow
def test_a_ray_worker_that_is_killed_costs_nothing(drive, alone, tiny_model, tmp_path):
    """In a process of its own: Ray ends the process that joined a cluster which it believes to be lost."""
    out = tmp_path / "out"
    command = (drive, "--output", out, "--model", tiny_model, "--engine", "onnxruntime", "--save", ",".join(SAVE))
    process = start(*command, "--ray", "local", "--jobs", "2", "--threads", "1")
    actors = []
    while process.poll() is None and not actors:
        if segments_in(out / "drive.partial") >= 2:
            family = psutil.Process(process.pid).children(recursive=True)
            actors = [child for child in family if child.cmdline() and child.cmdline()[0].startswith("ray::Actor")]
        sleep(0.005)
    for actor in actors:
        actor.kill()
    code, output, errors = finished(process)
    assert actors, errors
    assert (code, "a worker was lost" in output) == (0, True), errors
    same_outputs(alone, out, "drive")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.parametrize("address", ["auto", "127.0.0.1:9", "ray://127.0.0.1:9"])
def test_a_cluster_that_is_gone_is_told_at_once(address, tmp_path, monkeypatch):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")  # a port that nobody listens on
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(EngineError, match=r"no Ray cluster at (ray://)?127\.0\.0\.1:9.*start one with"):
        RayPool(print, address, "onnxruntime", 1)
