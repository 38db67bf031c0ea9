"""The window of `rtseg-cam` and its keys."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from rtseg.core.errors import RtsegError
from rtseg.core.sizes import Size
from rtseg.live.labeller import Labeller
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.pipeline import Result
from rtseg.sinks.base import write_picture
from rtseg.sinks.video import VideoSink
from rtseg.sinks.window import WindowSink

KEYS = {
    "q, Esc": "quit",
    "space": "pause",
    "s": "screenshot",
    "r": "record on/off",
    "+ -": "opacity",
    "v": "split view",
    "m": "next model",
    "h": "this help",
}
_NOTE_S = 2.5  # a message stays this long
_PAUSED_MS = 30


class Viewer:
    """The loop's view: shows the pictures and does what the keys ask for.

    Args:
        window: where the pictures go.
        painter: draws them; keys change its settings.
        record: opens a recording for a path.
        models: names that 'm' steps through.
        open_model: a segmenter for a name, loaded for frames of a size (height, width); called on a thread of its own,
            so that the loop runs on; raises RtsegError where it cannot run as asked.
        recording: what `--record` opened, if anything; 'r' ends it.
        folder: where screenshots and recordings go.
    """

    def __init__(
        self,
        window: WindowSink,
        painter: Painter,
        record: Callable[[Path], VideoSink],
        models: list[str],
        open_model: Callable[[str, Size], Labeller],
        recording: VideoSink | None = None,
        folder: Path = Path(),
    ) -> None:
        self._screenshots: list[Path] = []
        self._recordings = [recording] if recording else []
        self._window = window
        self._painter = painter
        self._record = record
        self._models = models
        self._open_model = open_model
        self._recording = recording
        self._folder = folder
        self._made: list[Labeller] = []
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="rtseg-loader")
        self._loading: Future[Labeller] | None = None
        self._shown: tuple[Result, np.ndarray] | None = None
        self._note: tuple[float, str] = (0.0, "")
        self._help = False
        self._actions: dict[str, Callable[[Loop], None]] = {
            "q": Loop.stop,
            "esc": Loop.stop,
            "space": self._pause,
            "s": self._screenshot,
            "r": self._toggle_recording,
            "+": lambda loop: self._change_opacity(0.1),
            "=": lambda loop: self._change_opacity(0.1),
            "-": lambda loop: self._change_opacity(-0.1),
            "v": lambda loop: self._toggle_split(),
            "m": self._next_model,
            "h": lambda loop: self._toggle_help(),
        }

    @property
    def saved(self) -> list[Path]:
        """Screenshots and finished recordings."""
        return [*(sink.path for sink in self._recordings if sink.saved), *self._screenshots]

    def show(self, loop: Loop, result: Result, picture: np.ndarray) -> None:
        self._shown = (result, picture)
        self._window.write(result.frame, result.labels, picture)

    def poll(self, loop: Loop) -> None:
        if self._window.closed:
            loop.stop()
            return
        key = self._window.poll_key(_PAUSED_MS if loop.paused else 1)
        if self._shown is None and loop.paused:
            sleep(_PAUSED_MS / 1000)  # no window yet, so nothing waited for a key
        self._painter.notes = self._notes(loop)
        action = self._actions.get(key.lower()) if key is not None else None
        if action is None and not (self._loading and self._loading.done()):
            return
        for step in (self._take_over, action):
            try:
                if step is not None:
                    step(loop)
            except RtsegError as error:  # a key that cannot be obeyed must not end the loop
                self._say(str(error))
        if loop.paused:
            self._redraw(loop)

    def close(self) -> None:
        """Closes the window and the networks that were opened here."""
        self._window.close()
        self._loader.shutdown()
        if self._loading and not self._loading.exception():
            self._made.append(self._loading.result())
        for segmenter in self._made:
            segmenter.close()

    def _notes(self, loop: Loop) -> list[str]:
        said_at, text = self._note
        notes = [f"recording {self._recording.path.name}"] if self._recording else []
        notes += ["paused"] if loop.paused else []
        notes += [text] if perf_counter() - said_at < _NOTE_S else []
        notes += [f"{key}: {what}" for key, what in KEYS.items()] if self._help else []
        return notes

    def _say(self, text: str) -> None:
        self._note = (perf_counter(), text)

    def _redraw(self, loop: Loop) -> None:
        """Redraws the held picture, with the settings that were changed during the pause."""
        if self._shown is not None:
            result = self._shown[0]
            self._painter.notes = self._notes(loop)
            self.show(loop, result, self._painter(result, loop.stats.hud(loop.drops)))

    def _pause(self, loop: Loop) -> None:
        loop.pause(not loop.paused)

    def _change_opacity(self, step: float) -> None:
        self._painter.opacity = round(min(1.0, max(0.0, self._painter.opacity + step)), 2)
        self._say(f"opacity {self._painter.opacity:.1f}")

    def _toggle_split(self) -> None:
        self._painter.split = not self._painter.split

    def _toggle_help(self) -> None:
        self._help = not self._help

    def _screenshot(self, loop: Loop) -> None:
        if self._shown is None:
            return
        path = self._new_path(".png")
        write_picture(path, self._shown[1])
        self._screenshots.append(path)
        self._say(f"saved {path.name}")

    def _toggle_recording(self, loop: Loop) -> None:
        if self._recording is not None:
            loop.remove_sink(self._recording)
            self._say(f"ended {self._recording.path.name}")
            self._recording = None
            return
        self._recording = self._record(self._new_path(".mp4"))
        self._recordings.append(self._recording)
        loop.add_sink(self._recording)

    def _next_model(self, loop: Loop) -> None:
        current = loop.stats.card.name if loop.stats.card else ""
        others = [name for name in self._models if name != current]
        if not others:
            self._say("there is no other model")
            return
        if self._loading or self._shown is None:
            return
        name = next((name for name in others if name > current), others[0])
        self._loading = self._loader.submit(self._open_model, name, self._shown[0].frame.size_hw)
        self._say(f"loading {name}")

    def _take_over(self, loop: Loop) -> None:
        """Puts the network that is being loaded in its place, once it is ready."""
        if self._loading is None or not self._loading.done():
            return
        loading, self._loading = self._loading, None
        segmenter = loading.result()
        try:
            self._painter.prepare(segmenter.card.labels)  # a class filter may not fit the other network
        except RtsegError:
            segmenter.close()
            raise
        self._made.append(segmenter)
        loop.change_labeller(lambda: segmenter)

    def _new_path(self, suffix: str) -> Path:
        """A file name of the time, with a number where that is taken."""
        stem = datetime.now().strftime("rtseg-%Y%m%d-%H%M%S")
        path = self._folder / f"{stem}{suffix}"
        number = 1
        while path.exists() or any(sink.path == path for sink in self._recordings):
            number += 1
            path = self._folder / f"{stem}-{number}{suffix}"
        return path
