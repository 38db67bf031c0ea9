"""`rtseg-video`: labels files, folders and lists of videos, resumes interrupted work, and survives bad inputs."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

import rtseg
from rtseg.apps._console import plain_console, run
from rtseg.core.errors import UsageError
from rtseg.core.machine import cores
from rtseg.core.paths import matches
from rtseg.core.runspec import AUTO, RunSpec
from rtseg.core.sizes import parse_size
from rtseg.core.zoo import Artifact, resolve

if TYPE_CHECKING:
    from rtseg.batch.jobs import Job
    from rtseg.batch.outcome import Outcome
    from rtseg.batch.plan import Choice
    from rtseg.batch.run import Batch
    from rtseg.engines import Selection

app = App(name="rtseg-video", version=rtseg.__version__)
_MOST_JOBS = 1024


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What `rtseg-video` takes.

    Attributes:
        output: The folder for outputs; they are named after the input without its suffix.
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it.
        engine: 'auto' takes the fastest installed engine, measured once on this machine.
        precision: fp32, fp16 or int8; 'auto' takes int8 if it loses at most 0.005 mIoU and is faster here. A precision
            that you name is never replaced: if it cannot run, that is an error.
        size: The network's input size, HEIGHTxWIDTH; by default it depends on the frame's size.
        exit: Stop a network with early exits at this exit; 'auto' stops at the first exit that is sure enough of a
            frame, 'regions' stops in the tiles of a frame where an exit is sure; NAME:0.9 does that with the exit and
            probability you give.
        save: What to write, one or more of overlay (NAME.mp4), labels (NAME_labels/000000.png), label-video
            (NAME_labels.mkv, lossless), areas (NAME_areas.csv), strip (NAME_strip.png), summary (NAME_summary.json),
            coco (NAME_coco.json, run lengths), cvat (NAME_cvat.xml, polygons), labelme (NAME_labelme/PICTURE.json,
            polygons), polygons (both), frames (NAME_frames/frame_000000.jpg), confidence (NAME_confidence/000000.png,
            0 to 255 for 0 to 1).
        opacity: How opaque the colours of the overlay are, 0 to 1.
        show: Colour only these classes, for example car,pedestrian.
        legend: Show which colour is which class.
        unsure: Draw pixels grey if the network is less sure of them than this, 0 to 1.
        steady: Average the network's scores over time where the picture does not change, so that labels do not flicker.
        jobs: Worker processes; by default 1 if there is little to do, else a short measurement decides.
        threads: CPU threads of each worker; by default the workers share all cores.
        ray: Run on the Ray cluster at this address ('auto', 'local', ray://HOST:10001); needs the extra 'ray'.
        json: Write the report to this file.
        overwrite: Replace existing outputs, and restart unfinished work that has other settings.
        dry_run: Show what would be done and, after a short measurement, how long it would take.
    """

    output: Path
    model: str = "icnet"
    engine: str = "auto"
    precision: str = "auto"
    size: str | None = None
    exit: str | None = None
    save: str = "overlay"
    opacity: float = 0.5
    show: str | None = None
    legend: bool = True
    unsure: float | None = None
    steady: Annotated[bool, Parameter(negative="")] = False
    jobs: int | None = None
    threads: int | None = None
    ray: str | None = None
    json: Path | None = None
    overwrite: Annotated[bool, Parameter(negative="")] = False
    dry_run: Annotated[bool, Parameter(negative="")] = False


@app.default
def video(*inputs: str, options: VideoOptions) -> None:
    """Label videos and pictures: write an overlay video, label maps, class areas and more for each.

    Existing outputs are skipped. After Ctrl-C, a crash or a full disk, unfinished work is kept in NAME.partial, and the
    same command resumes at most two seconds of video earlier. An input that fails does not stop the others; the exit
    code is that of the first failure.

    Args:
        inputs: Videos, pictures, folders (searched recursively), patterns, or .txt files that list these.
    """
    from rtseg.apps._outputs import error_of
    from rtseg.apps._progress import ProgressView
    from rtseg.apps._workers import foretell, pool_for
    from rtseg.batch.jobs import find_jobs, parse_save
    from rtseg.batch.lock import output_lock
    from rtseg.batch.run import Batch
    from rtseg.pictures.lettering import unwritten
    from rtseg.sinks.base import make_folder

    jobs = find_jobs(inputs, options.output, parse_save(options.save))
    console = plain_console()
    if options.dry_run and options.json:
        raise UsageError("--json reports what was done, and --dry-run does nothing: leave one of them out")
    _check_outputs(inputs, jobs, options)
    choice, selected = _choice(jobs, options)
    if options.dry_run:
        foretell(jobs, choice, options, console)
        return
    make_folder(options.output)
    if (
        options.legend
        and "overlay" in parse_save(options.save)
        and (note := unwritten(resolve(options.model).card.labels))
    ):
        console.print(note)
    with output_lock(options.output):
        threads, make_pool = pool_for(jobs, choice, options, console)
        with ProgressView(len(jobs), selected, console) as view:
            batch = Batch(jobs, choice, threads, view)
            try:
                with _ctrl_c(batch, console):
                    batch.run(make_pool)
            finally:
                _finish(console, options, batch.outcomes)
    failed = [outcome for outcome in batch.outcomes if outcome.error]
    if failed:
        raise error_of(failed, len(jobs))


def _check_outputs(inputs: Sequence[str], jobs: "Sequence[Job]", options: VideoOptions) -> None:
    """Checks that nothing replaces the network or a list of inputs, and the report no input or output of any run."""
    from rtseg.apps._overwrite import check_each_other, check_outputs, source_files
    from rtseg.batch.jobs import LIST_SUFFIX, SAVES

    jobs = [job for job in jobs if job.nameable]  # opening the others raises the error
    lists = [Path(text) for given in inputs if given.lower().endswith(LIST_SUFFIX)
             for text in (given, *matches(given))]  # fmt: skip
    read = {"the network": resolve(options.model).paths, "a list of inputs": lists}
    check_outputs({}, read, [("--output", target) for job in jobs for target in job.targets])
    if options.json is not None:
        sources = [file for job in jobs for file in source_files(str(job.source))]
        check_outputs({"--json": options.json}, {**read, "an input": sources})
        made = [("--output", path) for job in jobs for path in (job.partial, *map(job.target, SAVES))]
        check_each_other([("--json", options.json), *made])


def _choice(jobs: "Sequence[Job]", options: VideoOptions) -> "tuple[Choice, Selection]":
    """Checks all settings that do not depend on an input; also returns how 'auto' was decided."""
    from rtseg.batch.jobs import parse_save
    from rtseg.batch.plan import Choice
    from rtseg.batch.task import Look
    from rtseg.core.threads import thread_budget
    from rtseg.live.labellers.scoring import check_scores
    from rtseg.live.painter import Painter
    from rtseg.live.spec import check_spec

    if options.jobs is not None and not 1 <= options.jobs <= _MOST_JOBS:
        raise UsageError(f"{options.jobs} jobs: give 1 or more, up to {_MOST_JOBS}")
    if options.ray and options.threads is not None and options.threads < 1:
        raise UsageError(f"{options.threads} threads are not allowed: give 1 or more")
    if not options.ray:
        thread_budget(options.threads)  # refuses more than this machine has; a cluster's machines may have more
    artifact = resolve(options.model)
    size_hw = parse_size(options.size) if options.size else None
    spec = RunSpec(options.model, options.engine, options.precision, size_hw, options.threads, options.exit)
    check_spec(spec)
    selected = _selected(jobs, spec, artifact, options)
    show = artifact.card.labels.split_names(options.show) if options.show else None
    look = Look(options.opacity, options.legend, show, options.unsure)
    Painter(opacity=look.opacity, legend=look.legend, show=look.show, unsure=look.unsure).prepare(artifact.card.labels)
    if options.steady or options.unsure is not None or "confidence" in parse_save(options.save):
        check_scores(artifact.card)
        if options.exit is not None:
            raise UsageError("--exit cannot be used with --steady, --unsure or --save confidence: "
                             "they need the scores of the whole network")  # fmt: skip
    auto = frozenset(name for name in ("engine", "precision") if getattr(spec, name) == AUTO)
    spec = replace(spec, engine=selected.engine, precision=selected.precision)
    return Choice(artifact.card, spec, look, options.overwrite, auto, options.steady), selected


def _selected(jobs: "Sequence[Job]", spec: RunSpec, artifact: Artifact, options: VideoOptions) -> "Selection":
    """The engine and precision for the whole batch, by the size of its first input; decided on one machine."""
    from rtseg.batch.survey import first_size
    from rtseg.engines import EngineOptions, Selection, select
    from rtseg.live.policies import Every
    from rtseg.live.spec import default_size

    if AUTO not in (spec.engine, spec.precision):  # a cluster may have what this machine lacks
        return Selection(spec.engine, spec.precision)
    threads = cores() if options.ray or spec.threads is None else spec.threads
    size_hw = spec.size_hw or default_size(artifact.card, first_size(jobs) or artifact.card.train_size)
    exits = spec.exit is not None  # exits take one frame at a time
    ahead = 1 if exits else min(threads, Every().most_in_flight)
    wanted = EngineOptions(size_hw, threads=threads, in_flight=ahead, exits=exits)
    with Console(stderr=True).status("choosing an engine: measured once per machine"):
        return select(spec.engine, spec.precision, artifact, wanted)


@contextmanager
def _ctrl_c(batch: "Batch", console: Console) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops at the end of the segment, the second at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: object) -> None:
        restore()
        console.print("finishing the segment, a few seconds of video; press Ctrl-C again to stop at once")
        batch.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()


def _finish(console: Console, options: VideoOptions, outcomes: Sequence["Outcome"]) -> None:
    """Prints the outcome of every input, even if the run was interrupted."""
    from rtseg.apps._outputs import summary_table, write_report

    if any(outcome.frames or outcome.skipped for outcome in outcomes):
        plain_console().print(summary_table(outcomes))
        for note in (note for outcome in outcomes for note in outcome.notes):
            console.print(note)
    if options.json:
        write_report(options.json, outcomes)


def main() -> None:
    """The command `rtseg-video`."""
    run(app)


if __name__ == "__main__":
    main()
