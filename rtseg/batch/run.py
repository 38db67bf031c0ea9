"""Runs a batch: opens inputs in turn, keeps the workers busy, writes journals, joins segments, survives failures."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from rtseg.batch.assemble import assemble
from rtseg.batch.jobs import Job
from rtseg.batch.journal import Journal
from rtseg.batch.layout import JOURNAL
from rtseg.batch.made import as_made, check_addition, notes_of_old
from rtseg.batch.outcome import Outcome
from rtseg.batch.plan import Choice
from rtseg.batch.pool import Handle, Pool
from rtseg.batch.task import Defect, Event, Loaded, Progress, SegmentDone, Task, TaskDone, TaskFailed, WorkerLost
from rtseg.batch.work import Work
from rtseg.core.errors import InputError, OutputError, RtsegError
from rtseg.core.files import is_full
from rtseg.live.environment import environment
from rtseg.sources.span import TimestampError

log = logging.getLogger(__name__)

_LOSSES = 2  # workers that a segment may lose; after that, the input is to blame
_WAIT_S = 0.2


class Watcher(Protocol):
    """Shows progress; called in the batch's thread."""

    def opened(self, outcome: Outcome) -> None:
        """The number of an input's frames is known; earlier runs may have done some."""

    def advanced(self, outcome: Outcome, frames: int) -> None:
        """This many more frames were begun."""

    def ended(self, outcome: Outcome) -> None:
        """This run will do nothing more for an input."""

    def loaded(self, event: Loaded) -> None:
        """A worker has loaded its engine."""


class Batch:
    """Runs jobs on a pool of workers.

    Problems of a single input are recorded in its `Outcome`. Problems of all inputs, such as a full disk or an engine
    that does not run, end the batch, and everything that is complete stays for the next run.

    Args:
        jobs: inputs, in the order of work.
        choice: settings for all.
        threads: threads of each worker.
        watcher: shows the progress.
    """

    def __init__(self, jobs: Sequence[Job], choice: Choice, threads: int, watcher: Watcher) -> None:
        self.outcomes = [Outcome(job) for job in jobs]
        self.stopping = False
        self._choice = choice
        self._threads = threads
        self._watcher = watcher
        self._waiting = deque(range(len(jobs)))
        self._works: dict[int, Work] = {}
        self._tasks: deque[Task] = deque()
        self._running: dict[int, int] = {}  # job -> tasks in flight
        self._losses: dict[tuple[int, int], int] = {}  # (job, segment that was to be made) -> lost workers
        self._started: dict[int, float] = {}
        self._recount: set[int] = set()  # jobs whose frames must be counted once their tasks have ended
        self._fatal: RtsegError | None = None
        self._pool: Pool | None = None

    def run(self, make_pool: Callable[[Handle], Pool]) -> list[Outcome]:
        """Works until everything is done, has failed, or was stopped.

        Raises:
            EngineError: the engine does not run, which affects all inputs; likewise other errors that affect all.
            KeyboardInterrupt: `stop` was called.
        """
        try:
            with make_pool(self._on) as pool:
                self._pool = pool
                if self.stopping:
                    pool.finish()
                while self._go_on(pool):
                    pass
        finally:
            self._pool = None
            for number in list(self._works):
                self._let_go(number)
        if self._fatal is not None:
            raise self._fatal
        if self.stopping and not all(outcome.done or outcome.skipped or outcome.error for outcome in self.outcomes):
            raise KeyboardInterrupt
        return self.outcomes

    def stop(self) -> None:
        """Ends every task at the end of its segment; may be called from a signal handler."""
        self.stopping = True
        if self._pool is not None:
            self._pool.finish()

    def _go_on(self, pool: Pool) -> bool:
        """Starts what can be started and waits for running tasks; False if nothing is left."""
        ending = self.stopping or self._fatal is not None
        while not ending and self._waiting and len(self._tasks) < pool.free + 1 and not self._has_enough(pool):
            self._open(self._waiting.popleft(), divide=pool.size > 1)
            ending = self.stopping or self._fatal is not None
        if ending:
            self._tasks.clear()
        while self._tasks and pool.free and not (self.stopping or self._fatal):
            task = self._tasks.popleft()
            if task.job in self._works:
                self._running[task.job] = self._running.get(task.job, 0) + 1
                self._started.setdefault(task.job, perf_counter())
                pool.start(task)
        pool.wait(_WAIT_S if pool.busy or self._tasks else 0.0)
        for number in list(self._works):
            self._settle(number)
        return bool(pool.busy or (not (self.stopping or self._fatal) and (self._tasks or self._waiting)))

    def _has_enough(self, pool: Pool) -> bool:
        """Whether enough inputs are open. They are opened only as workers become free, since each holds a journal."""
        return len(self._works) > pool.size

    def _open(self, number: int, divide: bool) -> None:
        outcome = self.outcomes[number]
        try:
            work = self._take_up(number, outcome)
            if work is None:
                outcome.skipped = True
                self._watcher.ended(outcome)
                return
            self._works[number] = work
            outcome.job, outcome.expected = work.job, work.frames
            outcome.frames = outcome.kept = work.kept
            self._watcher.opened(outcome)
            self._tasks.extend(work.tasks(divide))
        except Exception as error:
            self._fail(number, error)

    def _take_up(self, number: int, outcome: Outcome) -> Work | None:
        """Opens an input with its journal; None if all its outputs exist.

        Raises:
            OutputError: missing outputs would be added to those of another network or other settings.
        """
        job, choice = outcome.job, self._choice
        job.check_names()
        missing = tuple(kind for kind in job.save if not job.target(kind).exists())
        if not choice.overwrite and _state(job.partial) != "assembled":
            if not missing:
                outcome.notes += notes_of_old(job, choice)
                return None
            check_addition(job, missing, choice)
            if len(missing) < len(job.save):
                outcome.notes.append(f"{job.name}: {', '.join(missing)} added to outputs that were there already")
                job, choice = replace(job, save=missing), as_made(job, choice)
        return Work(number, job, choice, self._threads)

    def _on(self, event: Event) -> None:
        """Handles an event from a worker."""
        if isinstance(event, Loaded):
            self._watcher.loaded(event)
            return
        outcome, work = self.outcomes[event.job], self._works.get(event.job)
        if isinstance(event, Progress):
            self._watcher.advanced(outcome, event.frames)
        elif isinstance(event, SegmentDone):
            if work is not None and event.segment.number in work.missing:
                try:
                    work.add(event)
                    outcome.frames += len(event.indices)
                except Exception as error:
                    self._fail(event.job, error)
        else:
            self._running[event.job] -= 1
            if isinstance(event, TaskDone):
                outcome.passes.append(event.figures)
            elif work is not None:
                self._on_failure(event, work)

    def _on_failure(self, event: TaskFailed, work: Work) -> None:
        error = event.error
        if isinstance(error, WorkerLost):
            # per segment: a lost machine takes several workers with it, each with its own task
            lost = event.job, min((number for number in work.missing if number >= event.first), default=event.first)
            self._losses[lost] = self._losses.get(lost, 0) + 1
            if self._losses[lost] <= _LOSSES:
                log.warning("%s: %s; its task is given to another", work.job.source, error)
                self.outcomes[event.job].notes.append(f"{work.job.source}: a worker was lost; its work was done again")
                return
            error = InputError(
                f"{work.job.source}: {error}, {_LOSSES + 1} times: it is damaged so that it ends whoever reads it, or "
                "there is too little memory: try --jobs 1"
            )
        if isinstance(error, TimestampError) and work.divisible:
            log.info("%s; its frames are counted instead", error)
            self._recount.add(event.job)
            self._forget_tasks(event.job)
            return
        self._fail(event.job, error, full=event.full)

    def _forget_tasks(self, number: int) -> None:
        self._tasks = deque(task for task in self._tasks if task.job != number)

    def _count_instead(self, number: int) -> None:
        """Plans an input again, with counted frames; none of its tasks may be running."""
        self._recount.discard(number)
        try:
            self._works[number].count_instead()
            self._works.pop(number).journal.close()
            self._open(number, divide=False)
        except Exception as error:
            self._fail(number, error)

    def _settle(self, number: int) -> None:
        """If none of an input's tasks is left: joins its segments, or starts tasks for the missing ones."""
        work = self._works[number]
        if self._running.get(number) or any(task.job == number for task in self._tasks):
            return
        outcome = self.outcomes[number]
        if number in self._recount:
            self._count_instead(number)
            return
        if work.missing:
            if self.stopping or self._fatal:
                self._let_go(number)
            else:
                self._tasks.extend(work.tasks(divide=False))  # segments of a lost worker
            return
        try:
            if work.broken_seams():
                work.distrust()
                outcome.frames = work.frames_done()
                self._tasks.extend(work.tasks(divide=False))
                return
            announced = work.announced
            if announced and announced > work.frames:
                read = outcome.frames
                outcome.notes.append(f"{work.job.source} is cut short: it ended after {read} of {announced} frames")
            outcome.notes += work.input_notes
            outcome.notes += [note for note in (work.changed, work.padded) if note]
            outcome.notes += assemble(work, self._choice.card.labels, self._about(outcome))
            outcome.done = True
            self._let_go(number)
        except Exception as error:
            self._fail(number, error)

    def _about(self, outcome: Outcome) -> dict[str, Any]:
        return {"input": str(outcome.job.source), "outputs": [str(path) for path in outcome.job.targets],
                "environment": environment()}  # fmt: skip

    def _fail(self, number: int, error: Exception, full: bool = False) -> None:
        """Records an input's failure; if it affects all inputs, it ends the batch."""
        outcome = self.outcomes[number]
        if not isinstance(error, RtsegError):
            error = Defect.of(error)
        if isinstance(error, Defect):
            log.error("%s", outcome.job.source, exc_info=error)
            error = Defect(f"{outcome.job.source}: {error}; this is a bug in rtseg")
        if full := full or is_full(error):
            partial = outcome.job.partial
            error = OutputError(f"cannot write {partial}: the disk is full; free some, and the same command resumes")
        outcome.error = error
        if (full or not isinstance(error, InputError | OutputError | Defect)) and self._fatal is None:
            self._fatal = error
            if self._pool is not None:
                self._pool.finish()
        self._forget_tasks(number)
        self._let_go(number)

    def _let_go(self, number: int) -> None:
        """Closes an input's journal; complete segments stay for the next run."""
        outcome = self.outcomes[number]
        if (started := self._started.get(number)) is not None:
            outcome.seconds = perf_counter() - started
        work = self._works.pop(number, None)
        if work is not None and not outcome.done:
            outcome.interrupted = outcome.error is None and (number in self._started or outcome.kept > 0)
            with suppress(OutputError):  # it has already failed, or only clean-up is left
                work.close()
        self._watcher.ended(outcome)


def _state(partial: Path) -> str | None:
    """How far unfinished work has got; None if there is none."""
    if not (partial / JOURNAL).is_file():
        return None
    with Journal(partial) as journal:
        state: str | None = journal.fact("state")
        return state
