"""How many worker processes to use, and how many threads in each: measured with this machine and video."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import psutil

from rtseg.batch.jobs import Job
from rtseg.batch.plan import Choice
from rtseg.batch.pool import ProcessPool
from rtseg.batch.task import Defect, Event, Task, TaskDone, TaskFailed, WorkerLost
from rtseg.batch.work import Work
from rtseg.core.errors import InputError, OutputError, RtsegError

log = logging.getLogger(__name__)

ENOUGH = 3000  # with at least so many frames, a measurement of some seconds pays off
_SECONDS = 3.0  # of video that each worker labels in a measurement
_GAIN = 1.05  # more processes need more memory, so they must be this much faster
_MEMORY_SHARE = 0.8  # usable share of the free memory
NOT_MEASURED = (InputError, OutputError, Defect, WorkerLost)


@dataclass(frozen=True)
class Crew:
    """Workers, and what was measured with them.

    Attributes:
        processes: number of workers.
        threads: threads of each.
        fps: frames per second of all together; 0 if it was not measured.
        memory: most bytes that one of them uses; 0 if it was not measured.
    """

    processes: int
    threads: int
    fps: float = 0.0
    memory: int = 0


def free_memory() -> int:
    """Bytes that this process and its children may still use, on the machine or in its control group."""
    available: int = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        return available if limit == "max" else max(0, min(available, int(limit) - used))
    except (OSError, ValueError):  # no control groups on this system
        return available


def candidates(cores: int, threads: int | None) -> list[Crew]:
    """Ways to share the cores: one process with all, two with half of them each, up to one per core."""
    if threads is not None:
        return [Crew(count, threads) for count in sorted({1, max(1, cores // threads)})]
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64, 128) if count <= cores]
    return [Crew(count, cores // count) for count in counts]


def choose_crew(jobs: Sequence[Job], choice: Choice, cores: int) -> Crew:
    """The fastest of `candidates` that fits into memory, measured on the first video that can be measured.

    Raises:
        EngineError: the engine does not run.
    """
    for job in jobs:
        try:
            return _fastest(job, choice, cores)
        except NOT_MEASURED as error:
            log.warning("%s: not measured how to share the cores: %s", job.source, error)
    return Crew(1, choice.spec.threads or cores)


def _fastest(job: Job, choice: Choice, cores: int) -> Crew:
    free = free_memory()
    best: Crew | None = None
    for crew in candidates(cores, choice.spec.threads):
        if best is not None and crew.processes * best.memory > free * _MEMORY_SHARE:
            break
        try:
            measured = measure(job, choice, crew)
        except WorkerLost as error:
            if best is None:
                raise
            log.warning("%d workers are too many: %s", crew.processes, error)
            break
        if best is None or measured.fps > best.fps * _GAIN:
            best = measured
    assert best is not None
    return best


def measure(job: Job, choice: Choice, crew: Crew) -> Crew:
    """Lets every worker label the first seconds of a video twice and times the second round.

    Raises:
        EngineError: the engine does not run.
        NOT_MEASURED: the video or the memory is to blame; the batch itself may still work.
    """
    ended: list[TaskDone] = []

    def handle(event: Event) -> None:
        if isinstance(event, TaskFailed):
            raise event.error
        if isinstance(event, TaskDone):
            ended.append(event)

    try:
        with TemporaryDirectory(prefix="rtseg-") as folder, ProcessPool(handle, crew.processes) as pool:
            task = _first_seconds(job, choice.with_threads(crew.threads), Path(folder))
            memory = _run_on_all(pool, task)
            ended.clear()
            start = perf_counter()
            memory = max(memory, _run_on_all(pool, task))
            seconds = perf_counter() - start
    except (RtsegError, WorkerLost):
        raise
    except Exception as error:  # a measurement is only advice; the batch reports what is wrong with an input
        raise Defect.of(error) from error
    frames = sum(event.figures["frames"] for event in ended)
    return replace(crew, fps=frames / seconds, memory=memory)


def _first_seconds(job: Job, choice: Choice, folder: Path) -> Task:
    work = Work(0, replace(job, folder=folder), choice, choice.spec.threads or 1)
    try:
        task = next(work.tasks(divide=False))
    finally:
        work.journal.close()
    wanted = _SECONDS * (task.span.fps or 1.0)
    count = next((place for place, one in enumerate(task.segments, 1) if one.stop >= wanted), len(task.segments))
    segments = task.segments[:count]
    return replace(task, segments=segments, span=replace(task.span, stops=tuple(one.stop for one in segments)))


def _run_on_all(pool: ProcessPool, task: Task) -> int:
    """Runs a task on all workers; returns the bytes that the largest of them used."""
    while pool.free:
        pool.start(task)
    memory = 0
    while pool.busy:
        pool.wait(0.1)
        memory = max([memory, *_resident(pool.processes)])
    return memory


def _resident(processes: Sequence[int]) -> list[int]:
    sizes = []
    for number in processes:
        try:
            sizes.append(psutil.Process(number).memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return sizes
