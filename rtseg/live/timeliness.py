"""How well a deadline was kept: which rung labelled each picture, and which pictures were late."""

from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rtseg.live.pipeline import Result
from rtseg.live.policies import Policy

_SPELLS = 10_000  # how many are kept; a spell is a run of frames with the same rung


@dataclass
class _Counts:
    """Counts for one rung."""

    frames: int = 0
    seconds: float = 0.0


class Timeliness:
    """Keeps count of the pictures of a loop that has a deadline.

    A frame is missed if it is shown with the labels of an earlier one (held), later than its deadline (late), or not
    at all (dropped).

    Args:
        policy: the policy that keeps the deadline; it learns from here how long drawing takes.
    """

    def __init__(self, policy: Policy) -> None:
        assert policy.deadline_s is not None
        self._policy, self._deadline_s = policy, policy.deadline_s
        self._frames = self._held = self._late = self._missed = 0
        self._counts: dict[str, _Counts] = {}
        self._spells: deque[tuple[str, int]] = deque(maxlen=_SPELLS)  # rung ('': held), frames in a row
        self._now: tuple[str, float] | None = None  # the rung whose labels are on screen, and since when

    def shown(self, result: Result) -> None:
        """Counts a picture that has just been shown."""
        now = perf_counter()
        self._policy.shown(result.labelled_at, now)
        late = now - result.frame.captured_at > self._deadline_s
        self._frames += 1
        self._held += result.held
        self._late += late
        self._missed += late or result.held
        if self._now is not None:
            self._counts[self._now[0]].seconds += now - self._now[1]
        self._now = result.rung, now
        counts = self._counts.setdefault(result.rung, _Counts())
        counts.frames += not result.held
        self._follow("" if result.held else result.rung)

    def _follow(self, rung: str) -> None:
        if self._spells and self._spells[-1][0] == rung:
            self._spells[-1] = rung, self._spells[-1][1] + 1
        else:
            self._spells.append((rung, 1))

    def hud(self, result: Result, dropped: int) -> list[str]:
        """HUD lines for a frame: the rung that made its labels, and whether they are old."""
        share = (self._missed + dropped) / max(1, self._frames + dropped)
        lines = [f"deadline {1e3 * self._deadline_s:g} ms, {share:.1%} missed", result.rung or "no labels yet"]
        return [*lines, "HELD: labels of an earlier frame"] if result.held and result.rung else lines

    def to_json(self, dropped: int) -> dict[str, Any]:
        """Plain JSON values.

        `frames` counts those captured, `missed` those not on time: `held`, `late` and `dropped`. Each rung has the
        number of frames that it labelled in time, and for how many seconds its labels were on screen. `sequence` is the
        rung of each frame shown, as [index in `rungs`, frames in a row]; the index is null while labels were held.
        """
        rungs = self._policy.rungs
        index = {str(rung): number for number, rung in enumerate(rungs)}
        counts = [self._counts.get(str(rung), _Counts()) for rung in rungs]
        return {
            "ms": round(1e3 * self._deadline_s, 3),
            "missed": self._missed + dropped,
            "frames": self._frames + dropped,
            "held": self._held,
            "late": self._late,
            "dropped": dropped,
            "rungs": [
                {**rung.to_json(), "frames": count.frames, "seconds": round(count.seconds, 3)}
                for rung, count in zip(rungs, counts, strict=True)
            ],
            "sequence": [[index.get(rung), frames] for rung, frames in self._spells],
        }
