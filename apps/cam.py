"""`rtseg-cam`: labels a camera, a video or a synthetic street while you watch."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

import rtseg
from rtseg.apps._console import plain_console, run
from rtseg.core.errors import InputError
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import format_size, parse_size

app = App(name="rtseg-cam", version=rtseg.__version__)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CamOptions:
    """What `rtseg-cam` takes.

    Attributes:
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it; by
            default icnet, or with --deadline all that ship.
        source: A camera number, 'synthetic', or the path or URL of a video, a picture or a folder of pictures.
        size: The network's input size, HEIGHTxWIDTH; by default it depends on the frame's size.
        engine: 'auto' takes the fastest installed engine, measured once on this machine.
        precision: fp32, fp16 or int8; 'auto' takes int8 if it loses at most 0.005 mIoU and is faster here. A precision
            that you name is never replaced: if it cannot run, that is an error.
        reconnect: Seconds to keep trying to reopen a lost camera or stream, while its last picture stays on screen,
            marked; 0 ends at the first loss, inf never gives up.
        exit: Stop a network with early exits at this exit; 'auto' stops at the first exit that is sure enough of a
            frame, 'regions' stops in the tiles of a frame where an exit is sure; NAME:0.9 does that with the exit and
            probability you give.
        record: Record what is shown to this MP4 file.
        window: Show a window. Without one, end with --frames, --duration or Ctrl-C.
        deadline: Milliseconds from a frame's capture until its picture is shown, for example 33. Each frame gets the
            best labels that are ready by then, from networks, sizes and precisions that are measured here and kept
            loaded; if none are ready, the last labels stay, marked HELD. A file is played at its own rate.
        web: Serve a page to watch and control it in a browser, by default on this machine only; another address, such
            as 0.0.0.0:8787, prints a link with a token that the page needs.
        frames: Stop after this many frames.
        duration: Stop after this many seconds.
        json: Write the report to this file.
        list_cameras: List the cameras of this machine and exit.
        camera_size: HEIGHTxWIDTH to request from the camera, or the size of the synthetic street.
        camera_fps: Frames per second to request from the camera, or the rate of the synthetic street or of a folder.
        opacity: How opaque the colours are, 0 to 1.
        show: Colour only these classes, for example car,pedestrian.
        legend: Show which colour is which class.
        threads: CPU threads in total; by default every core.
        steady: Average the network's scores over time where the picture does not change, so that labels do not flicker.
        reuse: Do not run the network while the picture does not change beyond noise: the last labels stay, for 30
            frames at most. For cameras that do not move; small or slow things may be labelled up to 30 frames late.
        unsure: Draw pixels grey if the network is less sure of them than this, 0 to 1.
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
        """How to run a network."""
        model = RunSpec.model if self.model is None else self.model
        size_hw = parse_size(self.size) if self.size else None
        return RunSpec(model, self.engine, self.precision, size_hw, self.threads, self.exit)


_DEFAULTS = CamOptions()


@app.default
def cam(options: CamOptions = _DEFAULTS) -> None:
    """Label a camera, a video or a synthetic street while you watch.

    Keys in the window: q or Esc quit, space pause, s snapshot, r record, + and - opacity, v split view,
    m next network, h help with all keys. The page of --web has the same keys, and a control for each.
    """
    console = plain_console()
    if options.list_cameras:
        _list_cameras(console)
    else:
        from rtseg.apps._watch import watch

        with ExitStack() as stack:
            watch(options, console, stack)


def _list_cameras(console: Console) -> None:
    from rtseg.sources.camera import list_cameras

    cameras = list_cameras()
    if not cameras:
        raise InputError("no camera can be opened on this machine; try --source synthetic")
    for camera in cameras:
        rate = f", {camera.fps:g} fps" if camera.fps else ""
        console.print(f"--source {camera.index}: {camera.name}, {format_size(camera.size_hw)}{rate}")


def main() -> None:
    """The command `rtseg-cam`."""
    run(app)


if __name__ == "__main__":
    main()
