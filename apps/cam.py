"""`rtseg-cam`: labels a camera, a video or a synthetic street while you watch."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

import rtseg
from rtseg.apps._console import run, running
from rtseg.apps._signals import stopped_by_sigterm
from rtseg.core.errors import InputError, UsageError
from rtseg.core.files import write_json
from rtseg.core.labels import CAMVID11
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.zoo import resolve, shipped

if TYPE_CHECKING:
    from rtseg.live.painter import Painter
    from rtseg.live.policies import Policy
    from rtseg.live.report import LoopReport
    from rtseg.live.segmenter import Segmenter
    from rtseg.live.views.browser.outlet import BrowserOutlet
    from rtseg.live.views.view import DeskView
    from rtseg.sinks.video import VideoSink
    from rtseg.sinks.window import WindowSink
    from rtseg.sources.base import Source

app = App(name="rtseg-cam", version=rtseg.__version__)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CamOptions:
    """What `rtseg-cam` takes.

    Attributes:
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it.
        source: A camera's number, 'synthetic', or the path or URL of a video, a picture or a folder of pictures.
        size: The network's input, HEIGHTxWIDTH; by default it follows from the frame's.
        engine: 'auto' takes the fastest that is installed, measured once on this machine.
        precision: fp32, fp16 or int8; 'auto' takes int8 where it loses at most 0.005 mIoU and is faster here. One that
            is named and cannot run is an error; it is never replaced.
        record: Write what is shown to this MP4 file.
        window: Show a window. Without one, end it with --frames, --duration or Ctrl-C.
        web: Serve a page to watch and control it in a browser, by itself on this machine only; another address, such
            as 0.0.0.0:8787, prints a link with a token that the page needs.
        frames: Stop after this many frames.
        duration: Stop after this many seconds.
        json: Write the report to this file.
        list_cameras: List the cameras of this machine, and exit.
        camera_size: HEIGHTxWIDTH to ask the camera for, or the size of the synthetic street.
        camera_fps: Frames per second to ask the camera for, or the rate of the synthetic street.
        opacity: How opaque the colours are, 0 to 1.
        show: Colour only these classes, for example car,pedestrian.
        legend: Show which colour is which class.
        threads: CPU threads shared by everything; by default every core.
    """

    model: str = "icnet"
    source: str = "0"
    size: str | None = None
    engine: str = "auto"
    precision: str = "auto"
    record: Path | None = None
    window: bool = True
    web: Annotated[list[str] | None, Parameter(consume_multiple=(0, 1), negative="", metavar="[HOST:PORT]")] = None
    frames: int | None = None
    duration: float | None = None
    json: Path | None = None
    list_cameras: Annotated[bool, Parameter(negative="")] = False
    camera_size: Annotated[str | None, Parameter(name=["--camera-size", "--source-size"])] = None
    camera_fps: float | None = None
    opacity: float = 0.5
    show: str | None = None
    legend: bool = True
    threads: int | None = None


_DEFAULTS = CamOptions()


@app.default
def cam(options: CamOptions = _DEFAULTS) -> None:
    """Label a camera, a video or a synthetic street while you watch.

    Keys in the window: q or Esc quit, space pause, s snapshot, r record, + and - opacity, v split view,
    m next network, h help and all others. The page that --web serves has the same, and a control for each.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if options.list_cameras:
        _list_cameras(console)
    else:
        with stopped_by_sigterm(), ExitStack() as stack:
            _watch(options, console, stack)


def _list_cameras(console: Console) -> None:
    from rtseg.sources.camera import list_cameras

    cameras = list_cameras()
    if not cameras:
        raise InputError("no camera can be opened on this machine; try --source synthetic")
    for camera in cameras:
        rate = f", {camera.fps:g} fps" if camera.fps else ""
        console.print(f"--source {camera.index}: {camera.name}, {format_size(camera.size_hw)}{rate}")


def _watch(options: CamOptions, console: Console, stack: ExitStack) -> None:
    """Opens everything, cheapest checks first, runs the loop, and reports."""
    from rtseg.live.loop import Loop
    from rtseg.live.painter import Painter
    from rtseg.live.policies import policy_for
    from rtseg.pictures.resize import limit_threads
    from rtseg.sinks.base import NullSink

    _check(options)
    segmenter = stack.enter_context(_open_segmenter(options, options.model))
    budget = segmenter.budget
    limit_threads(budget.opencv)
    show = segmenter.labels.split_names(options.show) if options.show else None
    hud = options.window or options.web is None  # the page writes the figures beside the picture
    painter = Painter(opacity=options.opacity, legend=options.legend, show=show, hud=hud)
    painter.prepare(segmenter.labels)
    window = _open_window() if options.window else None
    page = stack.enter_context(closing(_open_page(options.web))) if options.web is not None else None
    source = stack.enter_context(_open_source(options, budget.codec))
    policy = policy_for(source)
    record = partial(_open_recording, source, budget.codec, console)
    recording = record(options.record) if options.record else None
    if recording:
        stack.callback(recording.close, complete=False)  # for a run that fails before the loop, which closes it, starts
    with Console(stderr=True).status(f"preparing {options.model}: the first run on a machine takes some seconds"):
        segmenter.prepare(source.size_hw, policy.most_in_flight)
    _introduce(console, options, segmenter, source)
    viewer = None
    if window or page:
        ready = partial(_ready_segmenter, options, policy)
        viewer = _open_viewer(options, window, page, painter, record, ready, recording)
        stack.callback(viewer.close)
    if page:
        console.print(f"page    {page.url}")
    loop = Loop(
        source,
        segmenter,
        draw=painter,
        sinks=[recording or NullSink()],
        view=viewer,
        policy=policy,
        max_frames=options.frames,
        duration_s=options.duration,
        pace=viewer is not None,
        hold=viewer is not None and source.kind in ("image", "images"),
    )
    try:
        loop.run()
    except KeyboardInterrupt:  # how a run without limits is ended: it has its report too
        _report(console, options, loop.report(), _saved(viewer, recording))
        raise
    _report(console, options, loop.report(), _saved(viewer, recording))


def _saved(viewer: "DeskView | None", recording: "VideoSink | None") -> list[Path]:
    """What there is now that was not there before."""
    if viewer:
        return viewer.desk.saved
    return [recording.path] if recording and recording.saved else []


def _check(options: CamOptions) -> None:
    from rtseg.apps._overwrite import check_outputs, source_files
    from rtseg.sinks.video import partial_path

    for flag, value in (("--frames", options.frames), ("--duration", options.duration)):
        if value is not None and not value > 0:  # nan too
            raise UsageError(f"{flag} {value} is not allowed: give more than 0, or leave it out to run on")
    recorded = [options.record, partial_path(options.record)] if options.record else []
    check_outputs(
        {"--json": options.json},
        {"the source": source_files(options.source), "the network": resolve(options.model).paths},
        [("--record", path) for path in recorded],
    )


def _open_segmenter(options: CamOptions, model: str) -> "Segmenter":
    from rtseg.live.segmenter import Segmenter

    size_hw = parse_size(options.size) if options.size else None
    return Segmenter(RunSpec(model, options.engine, options.precision, size_hw, options.threads))


def _ready_segmenter(options: CamOptions, policy: "Policy", spec: RunSpec, frame_hw: Size) -> "Segmenter":
    """Another network, engine or precision in the place of what the command line names, loaded."""
    segmenter = _open_segmenter(replace(options, engine=spec.engine, precision=spec.precision), str(spec.model))
    segmenter.prepare(frame_hw, policy.most_in_flight)
    return segmenter


def _open_window() -> "WindowSink":
    from rtseg.sinks.window import WindowSink

    return WindowSink("rtseg-cam (h: help)")


def _open_page(web: list[str]) -> "BrowserOutlet":
    try:
        from rtseg.live.views.browser.address import Address
        from rtseg.live.views.browser.outlet import BrowserOutlet
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise UsageError(f"--web needs the package {package}: pip install 'rtseg[web]'") from error
    if len(web) > 1:
        raise UsageError(f"--web is given {len(web)} times: once is enough")
    return BrowserOutlet(Address.parse(web[0]) if web else Address())


def _open_viewer(
    options: CamOptions,
    window: "WindowSink | None",
    page: "BrowserOutlet | None",
    painter: "Painter",
    record: Callable[[Path], "VideoSink"],
    ready: Callable[[RunSpec, Size], "Segmenter"],
    recording: "VideoSink | None",
) -> "DeskView":
    """One desk of controls for the window, the page or both."""
    from rtseg.live.views.desk import Desk
    from rtseg.live.views.view import DeskView, Outlet
    from rtseg.live.views.window import WindowOutlet

    models = list(dict.fromkeys([*shipped(), options.model]))
    spec = RunSpec(options.model, options.engine, options.precision)
    outlets: list[Outlet] = [WindowOutlet(window)] if window else []
    outlets += [page] if page else []
    return DeskView(Desk(painter, record, models, ready, spec, recording), outlets)


def _open_source(options: CamOptions, codec_threads: int) -> "Source":
    from rtseg.sources.open import open_source

    asked_hw = parse_size(options.camera_size) if options.camera_size else None
    return open_source(
        options.source, size_hw=asked_hw, camera_size=asked_hw, fps=options.camera_fps, threads=codec_threads
    )


def _open_recording(source: "Source", codec_threads: int, console: Console, path: Path) -> "VideoSink":
    from rtseg.sinks.video import NOMINAL_FPS, VideoSink

    sink = VideoSink(path, source.size_hw, source.fps or NOMINAL_FPS, threads=codec_threads,
                     pixel_aspect=source.pixel_aspect)  # fmt: skip
    if sink.padded:
        console.print(f"{path}: H.264 has even sizes only, so {format_size(source.size_hw)} is padded by one pixel")
    return sink


def _introduce(console: Console, options: CamOptions, segmenter: "Segmenter", source: "Source") -> None:
    """Says what really runs, and what the network knows."""
    info, labels = segmenter.info, segmenter.labels
    console.print(
        f"{running(segmenter.card.name, info)}\n"
        f"source  {source.name}, {format_size(source.size_hw)}{f', {source.fps:.4g} fps' if source.fps else ''}"
    )
    for note in source.notes:
        console.print(f"note    {note}")
    if labels.names == CAMVID11.names:
        console.print(
            "labels  street scenes seen from a car, 11 classes; indoors the picture shows the loop, not useful labels"
        )
    else:
        console.print(f"labels  {len(labels)} classes ({labels.name}): {', '.join(labels.names)}")


def _report(console: Console, options: CamOptions, report: "LoopReport", saved: list[Path]) -> None:
    """Prints the summary and writes the JSON report."""
    console.print(report.summary())
    for path in saved:
        console.print(f"saved   {path}")
    if options.json:
        from rtseg.live.environment import environment

        told = {**report.to_json(), "saved": [str(path) for path in saved]}
        write_json(options.json, {**told, "environment": environment()})
        console.print(f"report  {options.json}")


def main() -> None:
    """The command `rtseg-cam`."""
    run(app)


if __name__ == "__main__":
    main()
