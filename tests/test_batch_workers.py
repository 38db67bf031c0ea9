"""Several workers share videos; killing one costs nothing but its segment."""

import importlib.util
import os
import signal
import sys
from functools import partial
from pathlib import Path
from time import sleep
from types import ModuleType, SimpleNamespace

import psutil
import pytest
from batch_runs import finished, killed, same_outputs, start
from videos import make_video

import rtseg.batch.work
from rtseg.batch.cluster import RayPool
from rtseg.batch.crew import Crew, candidates, choose_crew
from rtseg.batch.jobs import Job
from rtseg.batch.plan import Choice, versions
from rtseg.batch.pool import InlinePool, ProcessPool
from rtseg.batch.run import Batch
from rtseg.batch.survey import largest_of_a_few
from rtseg.batch.task import Look, SegmentDone, TaskFailed, WorkerLost
from rtseg.core.errors import EngineError, InputError
from rtseg.core.runspec import RunSpec
from rtseg.core.zoo import resolve
from rtseg.engines import ENGINES
from rtseg.sources.span import TimestampError

SAVE = ("overlay", "labels", "areas")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")]


class Watcher:
    """Calls `act` once, when the given number of frames was begun or an input was opened."""

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
    return Choice(resolve(str(tiny_model)).card, RunSpec(str(tiny_model), "onnxruntime", "fp32"), Look())


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
                self._handle(TaskFailed.of(task, WorkerLost("its worker is gone")))
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


def test_a_machine_that_takes_three_workers_along_fails_nothing(drive, choice, tmp_path):
    class Machine(InlinePool):
        size = 3
        lost = 0

        def start(self, task):
            if self.lost < 3:
                self.lost += 1
                self._handle(TaskFailed.of(task, WorkerLost("its machine is gone")))
            else:
                super().start(task)

    outcome = label(drive, tmp_path / "out", choice, Machine)
    assert (outcome.done, outcome.frames) == (True, 360)
    assert sum("a worker was lost" in note for note in outcome.notes) == 3


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_batch_that_is_killed_takes_its_workers_along(drive, alone, tiny_model, tmp_path):
    out = tmp_path / "out"
    command = (drive, "--output", out, "--model", tiny_model, "--save", ",".join(SAVE), "--jobs", "2", "--threads", "1")
    note = tmp_path / "children"
    killed(3, 5, *command, STRUCK_CHILDREN=str(note))
    children = [int(number) for number in note.read_text().split()]
    assert len(children) >= 2
    while not all(has_ended(child) for child in children):
        sleep(0.005)
    code, _, errors = finished(start(*command))
    assert code == 0, errors
    same_outputs(alone, out, "drive")


def test_a_seam_that_does_not_fit_is_made_again(drive, alone, choice, tmp_path, monkeypatch):
    """Like a container that seeks to other pictures than it says, which shows when both sides of a seam are done."""
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


def test_a_seam_that_never_fits_fails_its_input(choice, tmp_path):
    class Doubtful(Batch):
        def _on(self, event):
            if isinstance(event, SegmentDone) and event.segment.number == 1:
                event = SegmentDone(**{**vars(event), "before": (event.before or 0) ^ 1})
            super()._on(event)

    source = make_video(tmp_path / "a.mp4", 30, (64, 96), 10)
    (outcome,) = Doubtful([Job(source, tmp_path, ("labels",))], choice, 1, Watcher()).run(InlinePool)
    assert isinstance(outcome.error, InputError)
    assert "other pictures each time" in str(outcome.error)
    assert not (tmp_path / "a.partial").exists()


def test_what_cannot_be_measured_ends_nothing(drive, choice, monkeypatch):
    jobs = [Job(Path(name), Path(), SAVE) for name in ("counted.mp4", "good.mp4")]

    def measure(job, choice, crew):
        if job.source.name == "counted.mp4":
            raise TimestampError("counted.mp4: a picture has no timestamp")
        if crew.processes >= 4:
            raise WorkerLost("its worker process was lost")
        return Crew(crew.processes, crew.threads, 10.0 * crew.processes, 100)

    monkeypatch.setattr("rtseg.batch.crew.measure", measure)
    assert choose_crew(jobs, choice, 8).processes == 2
    assert choose_crew(jobs[:1], choice, 8) == Crew(1, 8)


def test_the_largest_video_is_measured_first(drive, tmp_path):
    large = make_video(tmp_path / "large.mp4", 2, (128, 192))
    jobs = [Job(path, tmp_path, SAVE) for path in (tmp_path / "missing.mp4", drive, large)]
    assert [job.source for job in largest_of_a_few(jobs)] == [large, drive]


def test_the_crew_is_measured(drive, choice, monkeypatch):
    assert [(crew.processes, crew.threads) for crew in candidates(8, None)] == [(1, 8), (2, 4), (4, 2), (8, 1)]
    assert [(crew.processes, crew.threads) for crew in candidates(8, 3)] == [(1, 3), (2, 3)]
    figures = {1: 10.0, 2: 10.2, 4: 14.0, 8: 20.0}
    monkeypatch.setattr(
        "rtseg.batch.crew.measure",
        lambda job, choice, crew: Crew(crew.processes, crew.threads, figures[crew.processes], 100),
    )
    monkeypatch.setattr("rtseg.batch.crew.free_memory", lambda: 10_000)
    assert choose_crew([Job(drive, Path(), SAVE)], choice, 8).processes == 8
    monkeypatch.setattr("rtseg.batch.crew.free_memory", lambda: 600)
    assert choose_crew([Job(drive, Path(), SAVE)], choice, 8).processes == 4
    assert choose_crew([Job(drive, Path(), SAVE)], choice, 2).processes == 1


def test_a_dry_run_says_what_and_how_long_and_does_nothing(drive, tiny_model, tmp_path):
    out = tmp_path / "out"
    process = start(drive, tmp_path / "missing.mp4", "--output", out, "--model", tiny_model, "--dry-run", COLUMNS="160")
    code, output, errors = finished(process)
    assert (code, errors.startswith("error: 1 of 2 inputs failed: no such file")) == (3, True)
    for words in ("64x96", "360", "no such file", "fps, measured", "about "):
        assert words in output
    assert not out.exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.slow
def test_a_ray_worker_that_is_killed_costs_nothing(drive, alone, tiny_model, tmp_path):
    """In its own process: Ray ends the process that joined a cluster which it believes to be lost."""
    out = tmp_path / "out"
    command = (drive, "--output", out, "--model", tiny_model, "--engine", "onnxruntime", "--save", ",".join(SAVE))
    process = start("actors", 2, 0, *command, "--ray", "local", "--jobs", "2", "--threads", "1", module="struck_video")
    code, output, errors = finished(process)
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


class FakeRay(ModuleType):
    """A cluster whose actors start, or do not, according to `comes_up`; then they stay idle."""

    exceptions = SimpleNamespace(RayError=type("RayError", (Exception,), {}))

    def __init__(self, comes_up):
        super().__init__("ray")
        self.comes_up, self.options = iter(comes_up), None
        self.init = self.kill = self.shutdown = lambda *_, **__: None
        self.cluster_resources = lambda: {"CPU": 4.0, "GPU": 2.0}

    def remote(self, kind):
        return SimpleNamespace(options=self._options)

    def _options(self, **options):
        self.options = options
        ask = SimpleNamespace(remote=lambda engine: partial(versions, engine))
        return SimpleNamespace(remote=lambda: SimpleNamespace(versions=ask))

    def wait(self, references, **_):
        return references[:1], []

    def get(self, reference):
        if not next(self.comes_up, False):
            raise self.exceptions.RayError("The actor died\nModuleNotFoundError: No module named 'rtseg'")
        return reference()


def ray_pool(monkeypatch, comes_up, engine="onnxruntime", **settings):
    ray = FakeRay(comes_up)
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray, RayPool(print, "local", engine, 1, **settings)


def wait_often(pool):
    for _ in range(10):
        pool.wait(0)


def test_ray_workers_that_cannot_start_end_the_batch(monkeypatch):
    _, pool = ray_pool(monkeypatch, [], count=2)
    with pytest.raises(EngineError, match=r"no worker comes up .*: ModuleNotFoundError: No module named 'rtseg'"):
        wait_often(pool)


def test_a_ray_machine_that_cannot_start_workers_leaves_the_others(monkeypatch):
    _, pool = ray_pool(monkeypatch, [False, True], count=2)
    wait_often(pool)
    assert (pool.size, pool.free) == (1, 1)


@pytest.mark.parametrize("engine", list(ENGINES))
def test_ray_gives_a_gpu_to_every_engine_that_runs_on_one(engine, monkeypatch):
    on_gpu = engine.endswith("-cuda") or engine == "tensorrt"
    ray, pool = ray_pool(monkeypatch, [], engine=engine)
    assert (ray.options["num_gpus"], pool.size) == (on_gpu, 2 if on_gpu else 4)


def test_versions_are_those_of_the_package_that_an_engine_comes_from():
    assert versions("onnxruntime-cuda") == versions("onnxruntime")
    assert None not in versions("onnxruntime").values()
