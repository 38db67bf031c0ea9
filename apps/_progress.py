"""Progress bars of a batch: one for the whole batch and one for each input in work."""

from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rtseg.apps._console import running

if TYPE_CHECKING:
    from rtseg.batch.outcome import Outcome
    from rtseg.batch.task import Loaded
    from rtseg.engines import Selection

_MANY = 2  # with this many inputs there is a bar for the whole batch


class ProgressView:
    """Shows the progress of a batch; bars only on a terminal."""

    def __init__(self, inputs: int, selected: "Selection", console: Console) -> None:
        stderr = Console(stderr=True)
        self._console = console
        self._selected = selected
        self._said: set[str] = set()
        self._inputs = inputs
        self._rows: dict[int, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=stderr,
            refresh_per_second=4,
            disable=not stderr.is_terminal,
        )
        self._whole = self._bars.add_task("all", total=inputs, unit="inputs", visible=inputs >= _MANY)

    def opened(self, outcome: "Outcome") -> None:
        """Adds a bar."""
        self._rows[id(outcome)] = self._bars.add_task(
            outcome.job.name, total=outcome.expected or None, completed=outcome.kept, unit="frames"
        )

    def advanced(self, outcome: "Outcome", frames: int) -> None:
        """Moves an input's bar."""
        if (row := self._rows.get(id(outcome))) is not None:
            self._bars.advance(row, frames)

    def ended(self, outcome: "Outcome") -> None:
        """Removes an input's bar and moves that of the whole batch."""
        if (row := self._rows.pop(id(outcome), None)) is not None:
            self._bars.remove_task(row)
        self._bars.advance(self._whole, 1)

    def loaded(self, event: "Loaded") -> None:
        """Prints what actually runs, once per input size of the network."""
        info, selected = event.info, self._selected
        if (info.engine, info.precision) == (selected.engine, selected.precision):  # else it was begun with another
            info = replace(info, why=selected.why)
        text = running(event.model, info)
        if text not in self._said:
            self._said.add(text)
            self._console.print(text)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
