"""`rtseg-cam`: labels a camera, a video or a synthetic street while you watch."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

import rtseg
from rtseg.apps._console import ladder, run, running
from rtseg.apps._signals import stopped_by_sigterm
from rtseg.core.errors import InputError, UsageError
from rtseg.core.files import write_json
from rtseg.core.labels import CAMVID11
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.zoo import resolve, shipped

if TYPE_CHECKING:
    from rich.status import Status

    from rtseg.live.labeller import Labeller
    from rtseg.live.painter import Painter
    from rtseg.live.policies import Policy
    from rtseg.live.report import LoopReport
    from rtseg.live.views.browser.outlet import BrowserOutlet
    from rtseg.live.views.view import DeskView
    from rtseg.sinks.video import VideoSink
    from rtseg.sinks.window import WindowSink
    from rtseg.sources.base import Source

app = App(name="rtseg-cam", version=rtseg.__version__)

_AGAIN_S = 3.0  # for the first frame of a source that is opened again


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CamOptions:
    """What `rtseg-cam` takes.

    Attributes:
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it;
            by default icnet, with --deadline all that ship.
        source: A camera's number, 'synthetic', or the path or URL of a video, a picture or a folder of pictures.
        size: The network's input, HEIGHTxWIDTH; by default it follows from the frame's.
        engine: 'auto' takes the fastest that is installed, measured once on this machine.
        precision: fp32, fp16 or int8; 'auto' takes int8 where it loses at most 0.005 mIoU and is faster here. One that
            is named and cannot run is an error; it is never replaced.
        reconnect: Seconds for which a camera or stream that is lost is opened again, while its last picture stays,
            marked; 0 ends with the first loss, inf never gives up.
        exit: Stop a network with early exits at this one; 'auto' stops at the first one that is sure enough of a frame.
        record: Write what is shown to this MP4 file.
        window: Show a window. Without one, end it with --frames, --duration or Ctrl-C.
        deadline: Milliseconds from a frame's capture until its picture is shown, for example 33. Each frame gets the
            best labels that are ready by then, from networks, sizes and precisions that are measured here and kept
            loaded; where none are, the last ones stay, marked HELD. A file is played at its own rate.
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
        steady: Average the network's scores over time where the picture does not change, so that labels do not flicker.
        reuse: Do not run the network while the picture does not change beyond noise: the last labels stay, for 30
            frames at most. For cameras that do not move; labels of something small or slow may be late by so much.
        unsure: Draw grey what the network is less sure of than this, 0 to 1.
    """

    model: str | None = None
    source: str = "0"
    size: str | None = None
    engine: str = "auto"
    precision: str = "auto"
    reconnect: float = 60.0
    exit: str | None = None
    record: Path | None = None
    window: bool = True
    deadline: float | None = None
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
    steady: Annotated[bool, Parameter(negative="")] = False
    reuse: Annotated[bool, Parameter(negative="")] = False
    unsure: float | None = None

    @property
    def spec(self) -> RunSpec:
        """How a network is to run."""
        model = RunSpec.model if self.model is None else self.model
        size_hw = parse_size(self.size) if self.size else None
        return RunSpec(model, self.engine, self.precision, size_hw, self.threads, self.exit)


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
    from rtseg.core.threads import thread_budget
    from rtseg.live.labellers.scoring import check_scores
    from rtseg.live.loop import Loop
    from rtseg.live.painter import Painter
    from rtseg.live.policies import Deadline, policy_for
    from rtseg.live.segmenter import check_spec
    from rtseg.pictures.resize import limit_threads
    from rtseg.sinks.base import NullSink

    _check(options)
    card = check_spec(options.spec).card
    if options.steady or options.unsure is not None:
        check_scores(card)
    budget = thread_budget(options.threads)
    limit_threads(budget.opencv)
    show = card.labels.split_names(options.show) if options.show else None
    hud = options.window or options.web is None  # the page writes the figures beside the picture
    painter = Painter(opacity=options.opacity, legend=options.legend, show=show, hud=hud, unsure=options.unsure)
    painter.prepare(card.labels)
    window = _open_window() if options.window else None
    page = stack.enter_context(closing(_open_page(options.web))) if options.web is not None else None
    source = stack.enter_context(_open_source(options, budget.codec))
    status = Console(stderr=True).status(f"preparing {card.name}: the first run on a machine takes some seconds")
    labeller = _open_labeller(options, source.live, status)
    stack.callback(labeller.close)
    policy = labeller.policy or policy_for(source)
    if isinstance(policy, Deadline):
        if source.kind == "image":
            raise UsageError(f"--deadline has no meaning for one picture ({source.name}): give a camera or a video")
        policy.expect(source.fps)  # before the ladder is made: it needs no rung that takes longer
    record = partial(_open_recording, source, budget.codec, console)
    recording = record(options.record) if options.record else None
    if recording:
        stack.callback(recording.close, complete=False)  # for a run that fails before the loop, which closes it, starts
    with status:
        labeller.prepare(source.size_hw, policy.most_in_flight)
    _introduce(console, labeller, source)
    viewer = None
    if window or page:
        ready = partial(_ready_labeller, options, policy, source.live)
        viewer = _open_viewer(options, window, page, painter, record, ready, recording)
        stack.callback(viewer.close)
    if page:
        console.print(f"page    {page.url}")
    loop = Loop(
        source,
        labeller,
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
    from rtseg.live.policies import Deadline
    from rtseg.sinks.video import partial_path

    for flag, value in (("--frames", options.frames), ("--duration", options.duration)):
        if value is not None and not value > 0:  # nan too
            raise UsageError(f"{flag} {value} is not allowed: give more than 0, or leave it out to run on")
    if not options.reconnect >= 0:  # nan too
        raise UsageError(f"--reconnect {options.reconnect} is not allowed: give seconds, 0 or more, or inf")
    if options.deadline is not None:
        Deadline(options.deadline / 1e3)  # refuses what is none
        if options.steady or options.reuse or options.unsure is not None or options.exit is not None:
            raise UsageError("--deadline goes with none of --steady, --reuse, --unsure and --exit: "
                             "its labels come from several networks")  # fmt: skip
    if options.exit is not None and (options.steady or options.unsure is not None):
        raise UsageError("--exit goes with neither --steady nor --unsure: they take the scores of the network's end")
    recorded = [options.record, partial_path(options.record)] if options.record else []
    check_outputs(
        {"--json": options.json},
        {"the source": source_files(options.source), "the network": resolve(options.spec.model).paths},
        [("--record", path) for path in recorded],
    )


def _open_labeller(options: CamOptions, live: bool, status: "Status") -> "Labeller":
    """What labels the frames: one network, or with a deadline a ladder of them."""
    from rtseg.live.labellers.anytime import Anytime
    from rtseg.live.ladder import Ladder, wishes
    from rtseg.live.policies import Deadline

    if options.deadline is None:
        return _network(options, options.spec, live)
    policy = Deadline(options.deadline / 1e3)
    return Anytime(Ladder(wishes(options.spec, options.model), tell=partial(_tell, status)), policy)


def _tell(status: "Status", text: str) -> None:
    status.update(f"{text}; the first run on a machine takes longest")


def _network(options: CamOptions, spec: RunSpec, live: bool) -> "Labeller":
    """A network with what the options put around it; it is loaded again where its engine fails."""
    from rtseg.live.labellers.early import open_labeller
    from rtseg.live.labellers.rebuilding import Rebuilding
    from rtseg.live.labellers.scoring import Scoring
    from rtseg.live.labellers.steady import WINDOW, Steady
    from rtseg.live.labellers.still import Still
    from rtseg.live.segmenter import Segmenter

    def make() -> "Labeller":
        segmenter = open_labeller(spec)
        labeller: Labeller = segmenter
        if options.steady or options.unsure is not None:
            assert isinstance(segmenter, Segmenter)  # no early exit: the command refuses both together
            steady = Steady(segmenter.card.logits_stride, None if live else WINDOW) if options.steady else None
            labeller = Scoring(segmenter, steady=steady, confident=options.unsure is not None)
        return Still(labeller) if options.reuse else labeller

    return Rebuilding(make)


def _ready_labeller(options: CamOptions, policy: "Policy", live: bool, spec: RunSpec, frame_hw: Size) -> "Labeller":
    """Another network, engine or precision in the place of what the command line names, loaded."""
    labeller = _network(options, spec, live)
    labeller.prepare(frame_hw, policy.most_in_flight)
    return labeller


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
    ready: Callable[[RunSpec, Size], "Labeller"],
    recording: "VideoSink | None",
) -> "DeskView":
    """One desk of controls for the window, the page or both."""
    from rtseg.live.views.desk import Desk
    from rtseg.live.views.view import DeskView, Outlet
    from rtseg.live.views.window import WindowOutlet

    spec = options.spec
    models = list(dict.fromkeys([*shipped(), str(spec.model)])) if options.deadline is None else []  # it chooses itself
    outlets: list[Outlet] = [WindowOutlet(window)] if window else []
    outlets += [page] if page else []
    return DeskView(Desk(painter, record, models, ready, spec, recording), outlets)


def _open_source(options: CamOptions, codec_threads: int) -> "Source":
    from rtseg.sources.open import open_source
    from rtseg.sources.reconnect import ReconnectingSource

    asked_hw = parse_size(options.camera_size) if options.camera_size else None
    opened = partial(
        open_source,
        options.source, size_hw=asked_hw, camera_size=asked_hw, fps=options.camera_fps, threads=codec_threads,
    )  # fmt: skip
    source = opened()
    if not source.live:
        return source
    return ReconnectingSource(source, partial(opened, timeout_s=_AGAIN_S), wait_s=options.reconnect)


def _open_recording(source: "Source", codec_threads: int, console: Console, path: Path) -> "VideoSink":
    from rtseg.sinks.video import NOMINAL_FPS, VideoSink

    sink = VideoSink(path, source.size_hw, source.fps or NOMINAL_FPS, threads=codec_threads,
                     pixel_aspect=source.pixel_aspect)  # fmt: skip
    if sink.padded:
        console.print(f"{path}: H.264 has even sizes only, so {format_size(source.size_hw)} is padded by one pixel")
    return sink


def _introduce(console: Console, labeller: "Labeller", source: "Source") -> None:
    """Says what really runs, and what the network knows."""
    from rtseg.live.policies import Deadline

    labels, policy = labeller.card.labels, labeller.policy
    what = ladder(policy) if isinstance(policy, Deadline) else running(labeller.card.name, labeller.info)
    console.print(
        f"{what}\nsource  {source.name}, {format_size(source.size_hw)}{f', {source.fps:.4g} fps' if source.fps else ''}"
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
