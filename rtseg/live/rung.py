"""A rung of the ladder: one way to label a frame, which a deadline can choose."""

from dataclasses import dataclass
from typing import Any

from rtseg.core.sizes import Size, format_size


@dataclass(frozen=True)
class Rung:
    """A network and how to run it.

    Attributes:
        model: the network's name.
        engine: its name in the engine table.
        precision: 'fp32', 'fp16' or 'int8'.
        size_hw: the network's input.
        score: how good its labels are, 0 to 1; only the order counts.
        seconds: from a frame to its labels on this machine, when it is otherwise idle.
    """

    model: str
    engine: str
    precision: str
    size_hw: Size
    score: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.model} {self.precision} {format_size(self.size_hw)} on {self.engine}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the size is [height, width]."""
        return {
            "model": self.model,
            "engine": self.engine,
            "precision": self.precision,
            "size": list(self.size_hw),
            "score": round(self.score, 4),
            "measured_ms": round(1e3 * self.seconds, 2),
        }


def pareto(rungs: list[Rung]) -> list[Rung]:
    """The rungs that no other beats in both time and score, fastest first."""
    front: list[Rung] = []
    for rung in sorted(rungs, key=lambda rung: (rung.seconds, -rung.score)):
        if not front or rung.score > front[-1].score:
            front.append(rung)
    return front


def spread(front: list[Rung], most: int, least_step: float = 1.15) -> list[Rung]:
    """At most `most` of a Pareto front, evenly spread over its times: the best, the fastest, and some between.

    Each takes at least `least_step` times as long as the one before; only the step above the fastest may be smaller.
    """
    if len(front) <= 1 or most == 1:
        return front[:1]
    step = max(least_step, (front[-1].seconds / front[0].seconds) ** (1 / (most - 1)))
    kept = [front[-1]]
    for rung in reversed(front[1:-1]):
        if rung.seconds * step <= kept[0].seconds and len(kept) < most - 1:
            kept.insert(0, rung)
    return [front[0], *kept]
