"""Opens and connects everything for `rtseg-cam`: network, camera, window, page, recording; and runs the loop."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from rtseg.apps._idle import refuse_idle
from rtseg.apps._watch_output import introduce, report_run, saved_files
from rtseg.core.errors import InputError, StalledError, UsageError
from rtseg.core.labels import LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size
from rtseg.core.zoo import resolve, shipped

if TYPE_CHECKING:
    from rich.status import Status

    from rtseg.apps.cam import CamOptions
    from rtseg.live.labeller import Labeller
    from rtseg.live.loop import Loop
    from rtseg.live.painter import Painter
    from rtseg.live.policies import Policy
    from rtseg.live.views.browser.outlet import BrowserOutlet
    from rtseg.live.views.view import DeskView
    from rtseg.sinks.video import VideoSink
    from rtseg.sinks.window import WindowSink
    from rtseg.sources.base import Source

_AGAIN_S = 3.0  # for the first frame of a reopened source


def watch(options: "CamOptions", console: Console, stack: ExitStack) -> None:
    """Opens everything, cheapest checks first, runs the loop, and reports; `stack` closes what was opened."""
    from rtseg.core.threads import thread_budget
    from rtseg.live.labellers.scoring import check_scores
    from rtseg.live.loop import Loop
    from rtseg.live.policies import policy_for
    from rtseg.live.spec import check_spec
    from rtseg.pictures.overlay import warm_up
    from rtseg.pictures.resize import limit_threads
    from rtseg.sinks.base import NullSink

    _check(options)
    card = check_spec(_specs(options)[0]).card
    if options.steady or options.unsure is not None:
        check_scores(card)
    budget = thread_budget(options.threads)
    limit_threads(budget.opencv)
    painter = _open_painter(options, card.labels)
    window = _open_window() if options.window else None
    page = stack.enter_context(closing(_open_page(options.web))) if options.web is not None else None
    source = stack.enter_context(_open_source(options, budget.codec))
    _check_source(options, source)
    told = escape(f"preparing {card.name}: the first run on a machine takes a few seconds")
    status = Console(stderr=True).status(told)
    labeller = _open_labeller(options, source.live, status)
    stack.callback(labeller.close)
    policy = labeller.policy or policy_for(source)
    record = partial(_open_recording, source, budget.codec, console)
    recording = record(options.record) if options.record else None
    before = stack.enter_context(ExitStack())
    if recording:
        before.callback(recording.close, complete=False)
    viewer = None
    if window or page:
        ready = partial(_ready_labeller, options, policy, source.live)
        viewer = _open_viewer(options, window, page, painter, record, ready, recording)
        stack.callback(viewer.close)
    loop = Loop(  # created first, so that a deadline knows the frame rate and loads no network that takes longer
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
    with status, ThreadPoolExecutor(1) as beside:
        drawing = beside.submit(warm_up)
        labeller.prepare(source.size_hw, policy.most_in_flight)
        drawing.result()
    introduce(console, labeller, source)
    if page:
        console.print(f"page    {page.url}")
    before.pop_all()  # the loop closes the recording; if it is stuck writing, nobody may close it
    _run(loop, options, console, viewer, recording)


def _run(
    loop: "Loop", options: "CamOptions", console: Console, viewer: "DeskView | None", recording: "VideoSink | None"
) -> None:
    """Runs to the end and prints the result."""
    try:
        loop.run()
    except KeyboardInterrupt:  # the normal end of a run without limits, with a report too
        report_run(console, options, loop.report(), saved_files(viewer, recording))
        raise
    except (InputError, StalledError):  # the recording has not failed
        if recording and recording.frames and recording.partial_path.exists():
            console.print(f"kept    {recording.partial_path}: the recording so far")
        raise
    report_run(console, options, loop.report(), saved_files(viewer, recording))


def _check(options: "CamOptions") -> None:
    from rtseg.apps._overwrite import check_outputs, source_files
    from rtseg.core.files import check_place
    from rtseg.live.policies import Deadline
    from rtseg.sinks.video import partial_path

    for flag, value in (("--frames", options.frames), ("--duration", options.duration)):
        if value is not None and not value > 0:  # also catches nan
            raise UsageError(f"{flag} {value} is not allowed: give more than 0, or leave it out for no limit")
    if not options.reconnect >= 0:  # also catches nan
        raise UsageError(f"--reconnect {options.reconnect} is not allowed: give seconds, 0 or more, or inf")
    if options.deadline is not None:
        Deadline(options.deadline / 1e3)  # refuses invalid values
        if options.steady or options.reuse or options.unsure is not None or options.exit is not None:
            raise UsageError("--deadline cannot be used with --steady, --reuse, --unsure or --exit: "
                             "its labels come from several networks")  # fmt: skip
    if options.exit is not None and (options.steady or options.unsure is not None):
        raise UsageError("--exit cannot be used with --steady or --unsure: they need the scores of the whole network")
    networks = [path for spec in _specs(options) for path in resolve(spec.model).paths]
    if options.record:
        check_place(options.record)
    recorded = [options.record, partial_path(options.record)] if options.record else []
    check_outputs(
        {"--json": options.json},
        {"the source": source_files(options.source), "the network": networks},
        [("--record", path) for path in recorded],
    )


def _check_source(options: "CamOptions", source: "Source") -> None:
    """Raises UsageError for what means nothing with this kind of source."""
    if options.deadline is not None and source.kind == "image":
        raise UsageError(f"--deadline makes no sense for a single picture ({source.name}): give a camera or a video")
    if source.kind in ("video", "image", "images"):
        names = ("camera_size",) if source.kind == "images" else ("camera_size", "camera_fps")
        refuse_idle(options, names, f"is for cameras and the synthetic street, and {source.name} is none")
    if not source.live:
        refuse_idle(options, ("reconnect",), f"is for cameras and streams, and {source.name} is none")


def _open_labeller(options: "CamOptions", live: bool, status: "Status") -> "Labeller":
    """Returns what labels the frames: one network, or with a deadline a ladder of them."""
    from rtseg.live.labellers.anytime import Anytime
    from rtseg.live.ladder import Ladder
    from rtseg.live.policies import Deadline

    if options.deadline is None:
        return _network(options, options.spec, live)
    policy = Deadline(options.deadline / 1e3)
    return Anytime(Ladder(_specs(options), tell=partial(_tell, status)), policy)


def _specs(options: "CamOptions") -> list[RunSpec]:
    """The networks that may run at the start: those a deadline chooses from, or the one."""
    from rtseg.live.ladder import wishes

    return [options.spec] if options.deadline is None else wishes(options.spec, options.model)


def _tell(status: "Status", text: str) -> None:
    status.update(escape(f"{text}; the first run on a machine takes longest"))


def _network(options: "CamOptions", spec: RunSpec, live: bool) -> "Labeller":
    """A network wrapped as the options ask; it is reloaded if its engine fails."""
    from rtseg.live.labellers.early import open_labeller
    from rtseg.live.labellers.rebuilding import Rebuilding
    from rtseg.live.labellers.scoring import scored
    from rtseg.live.labellers.steady import WINDOW
    from rtseg.live.labellers.still import Still

    def make() -> "Labeller":
        window = None if live or options.reuse else WINDOW  # skipped frames must not restart the average
        confident = options.unsure is not None
        labeller = scored(open_labeller(spec), steady=options.steady, confident=confident, window=window)
        return Still(labeller) if options.reuse else labeller

    return Rebuilding(make)


def _ready_labeller(options: "CamOptions", policy: "Policy", live: bool, spec: RunSpec, frame_hw: Size) -> "Labeller":
    """Another network, engine or precision instead of those on the command line, loaded."""
    labeller = _network(options, spec, live)
    labeller.prepare(frame_hw, policy.most_in_flight)
    return labeller


def _open_painter(options: "CamOptions", labels: LabelSet) -> "Painter":
    from rtseg.live.painter import Painter

    show = labels.split_names(options.show) if options.show else None
    hud = options.window or options.web is None  # the page shows the figures beside the picture
    painter = Painter(opacity=options.opacity, legend=options.legend, show=show, hud=hud, unsure=options.unsure)
    painter.check(labels)
    return painter


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
        raise UsageError(f"--web is given {len(web)} times: give it once")
    return BrowserOutlet(Address.parse(web[0]) if web else Address())


def _open_viewer(
    options: "CamOptions",
    window: "WindowSink | None",
    page: "BrowserOutlet | None",
    painter: "Painter",
    record: Callable[[Path], "VideoSink"],
    ready: Callable[[RunSpec, Size], "Labeller"],
    recording: "VideoSink | None",
) -> "DeskView":
    """One desk of controls for the window, the page, or both."""
    from rtseg.live.views.desk import Desk
    from rtseg.live.views.view import DeskView, Outlet
    from rtseg.live.views.window import WindowOutlet

    spec = options.spec
    models = list(dict.fromkeys([*shipped(), str(spec.model)])) if options.deadline is None else []  # it chooses itself
    outlets: list[Outlet] = [WindowOutlet(window)] if window else []
    outlets += [page] if page else []
    return DeskView(Desk(painter, record, models, ready, spec, recording), outlets)


def _open_source(options: "CamOptions", codec_threads: int) -> "Source":
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
        console.print(f"{path}: H.264 needs even sizes, so {format_size(source.size_hw)} is padded by one pixel")
    return sink
