"""What `rtseg-video` says at the end: the table, the report, and one error for all."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from rtseg.batch.outcome import Outcome
from rtseg.core.errors import RtsegError
from rtseg.core.files import write_json


def error_of(failed: Sequence[Outcome], inputs: int) -> RtsegError:
    """One error for all: that of the only input as it is, else of the first one's kind, naming every input."""
    first = failed[0].error
    assert isinstance(first, RtsegError)
    if inputs == 1:
        return first
    said = []
    for outcome in failed:
        name, failure = outcome.job.source.name, str(outcome.failure)
        said.append(failure if name in failure else f"{name}: {failure}")
    return type(first)(f"{len(failed)} of {inputs} inputs failed: {'; '.join(said)}")


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """One row an input."""
    table = Table("input", "frames", "fps", "corrupt", "output")
    for outcome in outcomes:
        ran = outcome.frames > 0 and not outcome.skipped
        figures = [str(outcome.frames), f"{outcome.fps:.1f}", str(outcome.corrupt)] if ran else ["-", "-", "-"]
        said = [f"failed: {outcome.failure}"] if outcome.error else []
        said += ["there already"] if outcome.skipped else []
        said += ["interrupted: the same command goes on"] if outcome.interrupted else []
        said += [str(path) for path in outcome.outputs]
        table.add_row(Text(str(outcome.job.source)), *figures, Text("\n".join(said)))
    return table


def write_report(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes every input's figures, and what they were measured on, as JSON."""
    from rtseg.runtime.environment import environment

    write_json(path, {"inputs": [outcome.to_json() for outcome in outcomes], "environment": environment()})
