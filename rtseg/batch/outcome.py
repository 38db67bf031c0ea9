"""The outcome for each input."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.batch.jobs import Job

_LOOP = ("model", "engine", "source", "latency_ms", "stages_ms")


@dataclass
class Outcome:
    """The outcome for one input.

    Attributes:
        job: the input.
        frames: frames that were labelled, over all runs.
        kept: how many of these an earlier run has labelled.
        expected: frames that it was expected to have; 0 if it was not looked at.
        seconds: time that this run spent on it, from its first task to its outputs.
        done: its outputs are complete under their final names.
        skipped: the outputs existed already.
        interrupted: the run was stopped; the same command continues it.
        error: why it failed.
        notes: what the user should know about its outputs.
        passes: figures of the loop, one entry per task.
    """

    job: Job
    frames: int = 0
    kept: int = 0
    expected: int = 0
    seconds: float = 0.0
    done: bool = False
    skipped: bool = False
    interrupted: bool = False
    error: BaseException | None = None
    notes: list[str] = field(default_factory=list)
    passes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failure(self) -> str | None:
        """Why it failed, in words."""
        if self.interrupted:
            return "interrupted"
        return None if self.error is None else str(self.error) or type(self.error).__name__

    @property
    def outputs(self) -> list[Path]:
        """What exists now: the outputs, or the folder of unfinished ones."""
        if not self.job.nameable:
            return []
        paths = self.job.targets if self.done or self.skipped else [self.job.partial]
        return [path for path in paths if path.exists()]

    @property
    def fps(self) -> float:
        """Frames of this run per second that it took."""
        return (self.frames - self.kept) / self.seconds if self.seconds > 0 else 0.0

    @property
    def corrupt(self) -> int:
        """Frames that could not be decoded; known once it is done."""
        return max(0, self.expected - self.frames) if self.done and not self.skipped else 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; figures only if frames were labelled."""
        about = {
            "input": str(self.job.source),
            "outputs": [str(path) for path in self.outputs],
            "error": self.failure,
            "skipped": self.skipped,
            "notes": self.notes,
        }
        if not self.passes and not self.frames:
            return about
        return {
            **about,
            **self._loop_figures(),
            "frames": self.frames,
            "frames_of_earlier_runs": self.kept,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "drops": 0,
            "corrupt": self.corrupt,
        }

    def _loop_figures(self) -> dict[str, Any]:
        """The figures of a single pass as they are; of several only those that can be combined: means and counts."""
        if not self.passes:
            return {}
        figures = {name: self.passes[0][name] for name in _LOOP}
        if len(self.passes) > 1:
            figures["latency_ms"] = _added([one["latency_ms"] for one in self.passes])
            stages = {name for one in self.passes for name in one["stages_ms"]}
            figures["stages_ms"] = {
                name: _added([one["stages_ms"][name] for one in self.passes if name in one["stages_ms"]])
                for name in sorted(stages)
            }
        return figures


def _added(summaries: list[dict[str, float]]) -> dict[str, float]:
    known = [summary for summary in summaries if summary["n"]]
    count = sum(summary["n"] for summary in known)
    mean = sum(summary["mean"] * summary["n"] for summary in known) / count if count else 0.0
    return {"mean": round(mean, 3), "n": count}
