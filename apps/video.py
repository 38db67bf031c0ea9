"""`rtseg-video`: labels video files; an overlay video, label maps or both for each."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

import rtseg
from rtseg.apps._console import run
from rtseg.apps._outputs import Job, Outcome, error_of, parse_save, plan, summary_table, write_report
from rtseg.core.errors import InputError, OutputError
from rtseg.core.sizes import format_size, parse_size

if TYPE_CHECKING:
    import numpy as np

    from rtseg.runtime.loop import Loop
    from rtseg.runtime.pipeline import Result
    from rtseg.runtime.segmenter import Segmenter
    from rtseg.vision.sinks import Sink
    from rtseg.vision.sources import Source

app = App(name="rtseg-video", version=rtseg.__version__)
_NOMINAL_FPS = 30.0  # of an overlay whose source does not say; the frames' own times decide how it plays


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What `rtseg-video` takes.

    Attributes:
        output: The folder for NAME.mp4 and NAME_labels/000000.png, where NAME is the input's without its suffix.
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it.
        engine: 'auto' takes the fastest that is installed, by the network's measured order.
        precision: fp32, fp16 or int8. What cannot run is an error; it is never replaced.
        size: The network's input, HEIGHTxWIDTH; by default it follows from the frame's.
        save: What to write: overlay, labels, or both: overlay,labels.
        opacity: Of the colours in the overlay, 0 to 1.
        show: Colour only these classes, for example car,pedestrian.
        legend: Show which colour is which class.
        threads: CPU threads shared by everything; by default every core.
        json: Write the report to this file.
        overwrite: Replace outputs that exist already.
    """

    output: Path
    model: str = "icnet"
    engine: str = "auto"
    precision: str = "fp32"
    size: str | None = None
    save: str = "overlay"
    opacity: float = 0.5
    show: str | None = None
    legend: bool = True
    threads: int | None = None
    json: Path | None = None
    overwrite: Annotated[bool, Parameter(negative="")] = False

    @property
    def classes(self) -> list[str] | None:
        """The names in `show`."""
        return [name.strip() for name in self.show.split(",")] if self.show else None


@app.default
def video(*inputs: str, options: VideoOptions) -> None:
    """Label video files; each gives an overlay video, a folder of label maps (8-bit PNG, class ids), or both.

    An input that fails does not stop the others; the exit code is that of the first that failed. While it is made,
    an output lies in NAME.partial, where it also stays after Ctrl-C or a failure.

    Args:
        inputs: Videos, pictures, or folders of pictures; an overlay of pictures is pictures.
    """
    from rtseg.vision.sinks import make_folder

    jobs = plan(inputs, options.output, parse_save(options.save), options.overwrite)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    outcomes: list[Outcome] = []
    with _Labeller(options, console) as labeller:
        make_folder(options.output)
        if options.json:
            make_folder(options.json.parent)
        try:
            for job in jobs:
                outcomes.append(Outcome(job))
                title = f"{len(outcomes)}/{len(jobs)} {job.name}" if len(jobs) > 1 else job.name
                labeller.label(outcomes[-1], title)
        finally:
            _finish(console, options, outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        raise error_of(failed, len(jobs))


def _finish(console: Console, options: VideoOptions, outcomes: Sequence[Outcome]) -> None:
    """Says what became of every input; also where the run was broken off."""
    if any(outcome.report for outcome in outcomes):
        Console().print(summary_table(outcomes))
        for note in (note for outcome in outcomes for note in outcome.notes):
            console.print(note)
    if options.json:
        write_report(options.json, outcomes)


class _Labeller:
    """Labels one input after the other; keeps the engine while the network's input size stays the same."""

    def __init__(self, options: VideoOptions, console: Console) -> None:
        """Checks all settings that do not depend on an input."""
        from rtseg.runtime.painter import Painter
        from rtseg.runtime.policy import apply_budget, thread_budget

        self._options = options
        self._console = console
        self._budget = thread_budget(options.threads)
        apply_budget(self._budget)
        self._loaded = False
        self._segmenter: Segmenter = self._open_segmenter()
        self._painter = Painter(opacity=options.opacity, legend=options.legend, show=options.classes, hud=False)
        self._painter.prepare(self._segmenter.labels)

    def _open_segmenter(self) -> "Segmenter":
        from rtseg.runtime.segmenter import open_segmenter

        options = self._options
        size_hw = parse_size(options.size) if options.size else None
        return open_segmenter(options.model, options.engine, options.precision, size_hw, options.threads)

    def __enter__(self) -> "_Labeller":
        return self

    def __exit__(self, *_: object) -> None:
        self._segmenter.close()

    def label(self, outcome: Outcome, title: str) -> None:
        """Labels an input and notes what became of it; only what concerns this input alone is caught."""
        try:
            with ExitStack() as stack:
                self._label(outcome, title, stack)
        except (InputError, OutputError) as error:
            outcome.error = error
        except BaseException as error:
            outcome.error = error
            raise

    def _label(self, outcome: Outcome, title: str, stack: ExitStack) -> None:
        from rtseg.runtime.loop import Loop

        job = outcome.job
        source = stack.enter_context(_open_source(job, self._budget.codec))
        folder = stack.enter_context(job.staging())
        sinks = self._open_sinks(outcome, source, folder)
        for sink in sinks:  # for what fails before the loop, which closes them, starts
            stack.callback(sink.close, complete=False)
        self._prepare(source)
        with _progress_view(title, source.frame_count) as view:
            draw = self._painter if "overlay" in job.save else None
            loop = Loop(source, self._segmenter, draw=draw, sinks=sinks, view=view)
            try:
                loop.run()
            finally:
                outcome.report = loop.report()
                view.finish(loop)
        outcome.check_length(source.frame_count)

    def _open_sinks(self, outcome: Outcome, source: "Source", folder: Path) -> list["Sink"]:
        from rtseg.vision.sink_video import VideoSink
        from rtseg.vision.sinks import LabelSink, PictureSink

        job, sinks = outcome.job, list["Sink"]()
        if "labels" in job.save:
            sinks.append(LabelSink(folder / job.labels))
        if "overlay" in job.save and job.overlay.endswith(".mp4"):
            fps = source.fps or _NOMINAL_FPS
            recording = VideoSink(folder / job.overlay, source.size_hw, fps, threads=self._budget.codec)
            if recording.padded:
                size = format_size(source.size_hw)
                outcome.notes.append(f"{job.overlay}: H.264 has even sizes only, so {size} is padded by one pixel")
            sinks.append(recording)
        elif "overlay" in job.save:
            sinks.append(PictureSink(folder / job.overlay))
        return sinks

    def _prepare(self, source: "Source") -> None:
        """Loads the engine where there is none yet for this source's size."""
        from rtseg.runtime.segmenter import default_size

        card = self._segmenter.card
        size_hw = parse_size(self._options.size) if self._options.size else default_size(card, source.size_hw)
        if self._loaded and self._segmenter.info.size_hw == size_hw:
            return
        self._segmenter.close()
        self._segmenter = self._open_segmenter()
        with Console(stderr=True).status(f"preparing {card.name}: the first run on a machine takes some seconds"):
            info = self._segmenter.prepare(source.size_hw)
        self._loaded = True
        chosen = "chosen by auto: " if self._options.engine == "auto" else ""
        self._console.print(
            f"model   {card.name}, {info.precision}, input {format_size(info.size_hw)}\n"
            f"engine  {info.engine} ({chosen}{info.runtime} on {info.device}, threads: {info.threads})"
        )


def _open_source(job: Job, threads: int) -> "Source":
    from rtseg.vision.sources import open_source

    if not job.source.exists():
        is_pattern = any(sign in str(job.source) for sign in "*?[")
        raise InputError(f"no file matches {job.source}" if is_pattern else f"no such file: {job.source}")
    # a path, even where it looks like a camera's number
    return open_source(os.path.join(os.curdir, job.source), threads=threads)


class _ProgressView:
    """The loop's hook: moves the bar."""

    def __init__(self, title: str, frames: int | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]:.1f} fps"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._frames = frames
        self._task = self.bar.add_task(title, total=frames, fps=0.0)

    def show(self, loop: "Loop", result: "Result", picture: "np.ndarray") -> None:
        """Nobody watches the pictures."""

    def poll(self, loop: "Loop") -> None:
        self.bar.update(self._task, completed=loop.stats.frames, fps=loop.stats.fps)

    def finish(self, loop: "Loop") -> None:
        """Shows the last frames too, and their number where the source did not say it."""
        self.poll(loop)
        if self._frames is None:
            self.bar.update(self._task, total=loop.stats.frames)


@contextmanager
def _progress_view(title: str, frames: int | None) -> Iterator[_ProgressView]:
    view = _ProgressView(title, frames)
    with view.bar:
        yield view


def main() -> None:
    """The command `rtseg-video`."""
    run(app)


if __name__ == "__main__":
    main()
