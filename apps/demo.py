"""What `make demo` runs: `rtseg-cam` on the procedural street, recorded, and in a window if there is a display."""

from pathlib import Path

from cyclopts import App

from rtseg.apps._console import plain_console, run
from rtseg.apps.cam import CamOptions, cam

VIDEO, PICTURE = Path("demo.mp4"), Path("demo.png")
SECONDS, FPS = 10, 30

app = App(name="python -m rtseg.apps.demo")


@app.default
def demo() -> None:
    """Segment ten seconds of a procedural street; leave demo.mp4 and demo.png in the current folder."""
    from rtseg.sinks.window import gui_available

    window, reason = gui_available()
    console = plain_console()
    if not window:
        console.print(f"window  none: {reason}; recording to {VIDEO}")
    for path in (VIDEO, PICTURE):
        path.unlink(missing_ok=True)  # an old file must not be taken for this run's
    # ends after ten seconds of video, or after ten seconds of time
    cam(CamOptions(source="synthetic", record=VIDEO, window=window, frames=SECONDS * FPS, duration=SECONDS))
    save_middle_frame(VIDEO, PICTURE)
    console.print(f"saved   {PICTURE}\nNext: rtseg-cam (your camera), rtseg-video FILE --output DIR, rtseg doctor")


def save_middle_frame(video: Path, picture: Path) -> None:
    """Writes the middle frame of a video; raises InputError if the video cannot be played."""
    from rtseg.sinks.base import write_picture
    from rtseg.sources.open import open_source

    with open_source(video) as source:
        frames = sum(1 for _ in source)
    with open_source(video) as source:
        middle = next(frame for frame in source if frame.index >= frames // 2)
    write_picture(picture, middle.image)


def main() -> None:
    """Entry point of `python -m rtseg.apps.demo`."""
    run(app)


if __name__ == "__main__":
    main()
