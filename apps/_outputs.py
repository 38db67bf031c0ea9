"""What `rtseg-video` prints at the end: the table, the report, and one error for all."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Column, Table
from rich.text import Text

from rtseg.batch.outcome import Outcome
from rtseg.batch.survey import Glance
from rtseg.core.errors import RtsegError
from rtseg.core.files import write_json
from rtseg.core.sizes import format_size

_NAMED = 5  # most inputs named with a shared reason; the table and the report have all


def error_of(failed: Sequence[Outcome | Glance], inputs: int) -> RtsegError:
    """One error for all inputs: that of the only input unchanged, otherwise one of the first error's class.

    A reason that several inputs share is given once, with their names.
    """
    first = failed[0].error
    assert isinstance(first, RtsegError)
    if inputs == 1:
        return first
    names: dict[str, list[str]] = {}
    for outcome in failed:
        name, failure = outcome.job.source.name, str(outcome.failure)
        names.setdefault(failure, []).extend([] if name in failure else [name])
    said = [f"{_some(sharing)}: {failure}" if sharing else failure for failure, sharing in names.items()]
    more = [f"and {len(said) - _NAMED} more reasons, in the table above"] if len(said) > _NAMED + 1 else []
    said = said[:_NAMED] + more if more else said
    return type(first)(f"{len(failed)} of {inputs} inputs failed: {'; '.join(said)}")


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """One row per input."""
    table = Table("input", "frames", "fps", "corrupt", Column("output", overflow="fold"))
    for outcome in outcomes:
        ran = outcome.frames > 0 and not outcome.skipped
        new = outcome.frames - outcome.kept
        frames = f"{new} + {outcome.kept} from earlier runs" if outcome.kept else str(outcome.frames)
        figures = [frames, f"{outcome.fps:.1f}", str(outcome.corrupt)] if ran else ["-", "-", "-"]
        said = [f"failed: {outcome.failure}"] if outcome.error else []
        said += ["exists already"] if outcome.skipped else []
        said += ["interrupted: the same command resumes"] if outcome.interrupted else []
        if not (said or outcome.done):
            said.append("not started")
        said += [str(path) for path in outcome.outputs]
        table.add_row(Text(str(outcome.job.source)), *figures, Text("\n".join(said)))
    return table


def plan_table(glances: Sequence[Glance]) -> Table:
    """What would be done with each input."""
    table = Table("input", "size", "frames", "to do", Column("what", overflow="fold"))
    for one in glances:
        what = f"cannot be read: {one.error}" if one.error else "exists already" if one.done else str(one.job.folder)
        if one.kept and not one.done:
            what = f"resumes in {one.job.partial}"
        known = not (one.error or one.done)
        figures = [format_size(one.size_hw), str(one.frames or "?"), str(one.left)] if known else ["-"] * 3
        table.add_row(Text(str(one.job.source)), *figures, Text(what))
    return table


def duration_text(seconds: float) -> str:
    """5000.0 -> '1 h 23 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def write_report(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes every input's figures, and the machine's data, as JSON."""
    from rtseg.live.environment import environment

    write_json(path, {"inputs": [outcome.to_json() for outcome in outcomes], "environment": environment()})
