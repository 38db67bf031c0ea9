"""What the controls change while the loop runs: drawing, network, recordings, snapshots."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from rtseg.core.card import PRECISIONS
from rtseg.core.channel import any_stuck
from rtseg.core.errors import RtsegError, UsageError
from rtseg.core.runspec import AUTO, RunSpec
from rtseg.core.sizes import Size
from rtseg.engines import ENGINES, available
from rtseg.live.labeller import Labeller
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.pipeline import Result
from rtseg.live.views.controls import Button, Choice, Control, Controls, Selection, Slider, Switch
from rtseg.sinks.base import write_picture
from rtseg.sinks.video import VideoSink

_NOTE_S = 2.5  # how long a message stays


@dataclass(frozen=True)
class Note:
    """A message to the viewers; `number` distinguishes two with the same text."""

    number: int
    text: str
    is_error: bool


class Desk:
    """Holds what the controls change; only the loop's thread uses it.

    Attributes:
        controls: the table of controls.
        shown: the labelled frame on screen and its picture.
        note: the newest message.
        loading: the network being loaded, if any.
    """

    def __init__(
        self,
        painter: Painter,
        record: Callable[[Path], VideoSink],
        models: Sequence[str],
        open_labeller: Callable[[RunSpec, Size], Labeller],
        spec: RunSpec,
        recording: VideoSink | None = None,
        folder: Path = Path(),
    ) -> None:
        """Sets up.

        Args:
            painter: draws the pictures.
            record: opens a recording at a path.
            models: names of the networks to choose from, `spec.model` among them; empty if something else chooses
                network, engine and precision.
            open_labeller: returns a labeller for a spec, loaded and warm for frames of a size (height, width). Called
                on its own thread, so that the loop keeps running; raises RtsegError if it cannot run as asked.
            spec: what runs at the start.
            recording: what `--record` opened, if anything.
            folder: where snapshots and recordings go; their file names are chosen here.
        """
        self.painter = painter
        self.shown: tuple[Result, np.ndarray] | None = None
        self.note = Note(0, "", False)
        self.loading = ""
        self._noted_at = 0.0
        self._record = record
        self._recording = recording
        self._recordings = [recording] if recording else []
        self._snapshots: list[Path] = []
        self._folder = folder
        self._open_labeller = open_labeller
        self._spec = self._asked = spec
        self._opened: list[Labeller] = []
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="rtseg-loader")
        self._loaded: Future[Labeller] | None = None
        self.controls = Controls(self._table(models))

    def _table(self, models: Sequence[str]) -> list[Control]:
        """Every control, in the order in which the page shows them."""
        painter, keep = self.painter, self._spec
        engines = [AUTO, *(name for name in ENGINES.names() if name == keep.engine or available(name))]

        def choice(name: str, label: str, field: str, options: Sequence[str], key: str = "") -> Choice:
            return Choice(
                name, label, {key: 1} if key else {}, lambda loop: str(getattr(self._spec, field)),
                lambda loop, value: self._load(**{field: value}), options,
            )  # fmt: skip

        def drawn(name: str, label: str, keys: dict[str, int]) -> Switch:
            return Switch(name, label, keys, lambda _: getattr(painter, name), lambda _, on: setattr(painter, name, on))

        runs = [
            choice("network", "Network", "model", models, "m"),
            choice("engine", "Engine", "engine", engines),
            choice("precision", "Precision", "precision", [AUTO, *PRECISIONS]),
        ]
        return [
            Switch("pause", "Pause", {"space": 1}, lambda loop: loop.paused, Loop.pause),
            Button("snapshot", "Snapshot", {"s": 1}, self._snapshot),
            Switch("record", "Record", {"r": 1}, lambda _: self._recording is not None, self._set_recording),
            *(runs if models else []),
            Slider("opacity", "Opacity", {"+": 1, "-": -1}, lambda _: painter.opacity, self._set_opacity,
                   low=0.0, high=1.0, step=0.1),
            drawn("split", "Split view", {"v": 1}),
            drawn("legend", "Legend", {"l": 1}),
            drawn("hud", "Figures in the picture", {"f": 1}),
            Selection("classes", "Classes", self._classes, self._set_classes, self._colours),
        ]  # fmt: skip

    # Used by the views

    @property
    def saved(self) -> list[Path]:
        """Snapshots and finished recordings."""
        return [*(sink.path for sink in self._recordings if sink.saved), *self._snapshots]

    @property
    def recording(self) -> str:
        """The name of the file being recorded; empty if there is none."""
        return self._recording.path.name if self._recording else ""

    def notes(self, loop: Loop) -> list[str]:
        """Lines for the picture: what is going on, and the newest message while it is new."""
        notes = [f"recording {self.recording}"] if self._recording else []
        notes += ["paused"] if loop.paused else []
        return notes + ([self.note.text] if perf_counter() - self._noted_at < _NOTE_S else [])

    def say(self, text: str, *, is_error: bool = False) -> None:
        """Shows a message to the viewers."""
        self.note = Note(self.note.number + 1, text, is_error)
        self._noted_at = perf_counter()

    def attempt(self, work: Callable[[], None]) -> RtsegError | None:
        """Does what was asked for; an error is shown and returned, so that it does not end the loop."""
        try:
            work()
        except RtsegError as error:
            self.say(str(error), is_error=True)
            return error
        return None

    def step(self, loop: Loop) -> bool:
        """Switches to the network that was loading once it is ready; True if it did."""
        if self._loaded is None or not self._loaded.done():
            return False
        loaded, self._loaded, self.loading = self._loaded, None, ""
        self.attempt(lambda: self._take_over(loop, loaded))
        return True

    def close(self) -> None:
        """Closes the networks that were opened here."""
        self._loader.shutdown(wait=not any_stuck())  # if an engine hangs, loading may hang too
        if self._loaded and self._loaded.done() and not self._loaded.exception():
            self._opened.append(self._loaded.result())
        for labeller in self._opened:
            labeller.close()

    # The controls' actions

    def _set_opacity(self, loop: Loop, value: float) -> None:
        self.painter.opacity = round(value, 2)
        self.say(f"opacity {self.painter.opacity:g}")

    def _classes(self, loop: Loop) -> list[str]:
        show = self.painter.show
        return list(self._colours(loop) if show is None else show)

    def _set_classes(self, loop: Loop, names: list[str]) -> None:
        self.painter.show = None if names == list(self._colours(loop)) else names

    def _colours(self, loop: Loop) -> dict[str, str]:
        """Colours of the network that labels the next frame; during a pause it may not have labelled any yet."""
        card = self._opened[-1].card if self._opened else loop.stats.card
        if card is None:
            return {}
        labels = card.labels
        pairs = zip(labels.names, labels.palette_rgb, strict=True)
        return {name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in pairs}

    def _snapshot(self, loop: Loop) -> None:
        if self.shown is None:
            raise UsageError("there is no picture yet: wait for the first")
        path = self._new_path(".png")
        write_picture(path, self.shown[1])
        self._snapshots.append(path)
        self.say(f"saved {path.name}")

    def _set_recording(self, loop: Loop, on: bool) -> None:
        if self._recording is not None:
            loop.remove_sink(self._recording)
            self.say(f"ended {self.recording}")
            self._recording = None
        if on:
            self._recording = self._record(self._new_path(".mp4"))
            self._recordings.append(self._recording)
            loop.add_sink(self._recording)
            self.say(f"recording {self.recording}")

    def _load(self, **changes: Any) -> None:
        """Loads another network, engine or precision while the current one keeps running."""
        if self._loaded is not None:
            raise UsageError(f"{self.loading} is still being loaded: wait for it")
        if self.shown is None:
            raise UsageError("there is no picture yet: wait for the first")
        self._asked = replace(self._spec, **changes)
        parts = str(self._asked.model), self._asked.engine, self._asked.precision
        self.loading = ", ".join(part for part in parts if part != AUTO)
        self._loaded = self._loader.submit(self._open_labeller, self._asked, self.shown[0].frame.size_hw)
        self.say(f"loading {self.loading}")

    def _take_over(self, loop: Loop, loaded: Future[Labeller]) -> None:
        labeller = loaded.result()
        try:
            self.painter.prepare(labeller.card.labels)  # the class filter may not fit the new network
        except RtsegError:
            labeller.close()
            raise
        self._opened.append(labeller)
        self._spec = self._asked
        loop.change_labeller(lambda: labeller)
        info = labeller.info
        self.say(f"{labeller.card.name} runs on {info.engine}, {info.precision}")

    def _new_path(self, suffix: str) -> Path:
        """A file name with the time, and a number if it is taken."""
        stem = datetime.now().strftime("rtseg-%Y%m%d-%H%M%S")
        path = self._folder / f"{stem}{suffix}"
        number = 1
        while path.exists() or any(sink.path == path for sink in self._recordings):
            number += 1
            path = self._folder / f"{stem}-{number}{suffix}"
        return path
