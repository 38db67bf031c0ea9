"""The workers of `rtseg-video`: how many share the cores, and how long they are going to take."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from rtseg.apps._console import plain_console
from rtseg.core.machine import cores
from rtseg.core.sizes import format_size

if TYPE_CHECKING:
    from rtseg.apps.video import VideoOptions
    from rtseg.batch.crew import Crew
    from rtseg.batch.jobs import Job
    from rtseg.batch.plan import Choice
    from rtseg.batch.pool import Handle, Pool
    from rtseg.batch.survey import Glance


def pool_for(
    jobs: "Sequence[Job]", choice: "Choice", options: "VideoOptions", console: Console
) -> "tuple[int, Callable[[Handle], Pool]]":
    """Threads of a worker, and a function that creates the workers."""
    from rtseg.batch.cluster import RayPool
    from rtseg.batch.pool import InlinePool, ProcessPool

    if options.ray:
        address, threads = options.ray, options.threads or 1
        return threads, lambda handle: RayPool(handle, address, choice.spec.engine, threads, options.jobs)
    crew = _crew(jobs, choice, options, console)
    if crew.processes == 1:
        return crew.threads, InlinePool
    return crew.threads, lambda handle: ProcessPool(handle, crew.processes)


def _crew(jobs: "Sequence[Job]", choice: "Choice", options: "VideoOptions", console: Console) -> "Crew":
    """What the user asked for; measured if there is enough to do; otherwise one worker with all cores."""
    from rtseg.batch.crew import ENOUGH, Crew, choose_crew
    from rtseg.batch.survey import frames_at_a_glance, largest_of_a_few

    count = cores()
    if options.jobs is not None:
        return Crew(options.jobs, options.threads or max(1, count // options.jobs))
    jobs = [job for job in jobs if job.nameable]
    left = [job for job in jobs if options.overwrite or not all(target.exists() for target in job.targets)]
    if count == 1 or frames_at_a_glance(left, ENOUGH) < ENOUGH:
        return Crew(1, options.threads or count)
    with Console(stderr=True).status("measuring how to share the cores"):
        crew = choose_crew(largest_of_a_few(left), choice, count)
    if not crew.fps:
        console.print("could not measure how to share the cores: one worker uses them all")
        return crew
    each = f"{crew.memory / 2**20:.0f} MiB each"
    console.print(f"workers {crew.processes} of {crew.threads} threads: {crew.fps:.1f} fps, {each}, measured")
    return crew


def foretell(jobs: "Sequence[Job]", choice: "Choice", options: "VideoOptions", console: Console) -> None:
    """`--dry-run`: what would be done with every input, and how long that takes according to a short measurement."""
    from rtseg.apps._outputs import error_of, plan_table
    from rtseg.batch.survey import glance

    glances = [glance(job, options.overwrite) for job in jobs]
    plain_console().print(plan_table(glances))
    left = [one for one in glances if one.wanted]
    if left:
        if options.ray:
            console.print("the time is for this machine alone, not for the cluster")
            options, choice = replace(options, jobs=None, threads=None), choice.with_threads(None)
        _foretell_time(left, choice, _crew([one.job for one in left], choice, options, console), console)
    else:
        console.print("nothing to do")
    failed = [one for one in glances if one.error]
    if failed:
        raise error_of(failed, len(jobs))


def _foretell_time(left: "Sequence[Glance]", choice: "Choice", crew: "Crew", console: Console) -> None:
    """Estimates the time from the rates measured on the first input of each size."""
    from rtseg.apps._outputs import duration_text
    from rtseg.batch.crew import NOT_MEASURED, measure

    seconds, without = 0.0, 0
    for size_hw in sorted({one.size_hw for one in left}):
        alike = [one for one in left if one.size_hw == size_hw]
        frames = sum(one.left for one in alike)
        row = f"{format_size(size_hw)}: {_count(frames, 'frame')} in {_count(len(alike), 'input')}"
        try:
            fps = measure(alike[0].job, choice, crew).fps
        except NOT_MEASURED as error:
            console.print(f"{row}, not measured: {error}")
            without += len(alike)
            continue
        seconds += frames / fps
        console.print(f"{row} at {fps:.1f} fps, measured")
    rest = f"; without {_count(without, 'input')}" if without else ""
    share = f"{_count(crew.processes, 'worker')} of {_count(crew.threads, 'thread')}"
    console.print(f"about {duration_text(seconds)} with {share}{rest}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
