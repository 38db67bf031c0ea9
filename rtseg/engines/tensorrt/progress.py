"""Shows the progress of TensorRT's builder: one bar for each running phase."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """Manages one bar per phase; may be called from any thread."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def update(self, phase: str, done: int, total: int) -> None:
        """Updates a phase's bar; removes it when the phase is finished."""
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total)
        self._progress.update(self._tasks[phase], completed=done, total=total)
        if done >= total:
            self._progress.remove_task(self._tasks.pop(phase))


@contextmanager
def build_progress(title: str, shown: bool) -> Iterator[Bars]:
    """Shows bars on stderr under a line that says what is being built; nothing if `shown` is False."""
    console = Console(stderr=True, quiet=not shown)
    console.print(title, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        yield Bars(progress)
