"""Everything that moves: cars in both lanes, cyclists and pedestrians, in rings that travel with the camera."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from rtseg.scenes import bodies
from rtseg.scenes.cars import CARS, PAINTS, CarKind, draw_car
from rtseg.scenes.painter import Camera
from rtseg.scenes.people import draw_cyclist, draw_person, make_person
from rtseg.scenes.style import Colour, Style, vary
from rtseg.scenes.world import CARRIAGEWAY, KERBSIDE, Item, Shadow, car_shadow

_BEHIND = 8.0  # metres behind the camera where a mover leaves its ring


@dataclass(frozen=True)
class Mover:
    """Starts `start` metres into its ring of `ring` metres and moves at `speed` m/s along the road."""

    u: float
    start: float
    speed: float
    ring: float

    def place(self, camera_s: float, t: float) -> float:
        """Its position along the road, always between `_BEHIND` the camera and the ring's far end."""
        return camera_s - _BEHIND + (self.start + self.speed * t - camera_s + 1e6 * self.ring) % self.ring


class Traffic:
    """All movers of a drive; a pure function of the seed and the time."""

    def __init__(self, style: Style, seed: int) -> None:
        rng = np.random.default_rng((seed, 5))
        self.style = style
        self._rider_shadow, self._walker_shadow = self._round_shadow(0.3, 0.9), self._round_shadow(0.25, 0.25)
        lane = style.road_right - style.road_left
        self._lead = self._paints(rng, 2)
        self._lead_phase = rng.uniform(0, 6.28, 2)
        self._lead_gap = float(rng.uniform(11, 24))
        ring = 36.0 * style.oncoming
        speed = -float(rng.uniform(5, 10))
        self._oncoming = [
            (Mover(lane, 36.0 * k + float(rng.uniform(0, 18)), speed, ring), kind, paint)
            for k, (kind, paint) in enumerate(self._paints(rng, style.oncoming))
        ]
        self._cyclists = []
        for k in range(style.cyclists):
            own = k % 3 != 2
            u = -lane / 2 + 0.35 if own else lane * 1.5 - 0.4
            pace = style.speed - float(rng.uniform(0.6, 1.4)) if own else -4.5
            first = 62.0 * (k // 3 * 2 + k % 3 + rng.uniform(0, 0.6)) / style.cyclists
            self._cyclists.append((Mover(u, first, pace, 62.0), make_person(rng), 1 if own else -1))
        self._people = []
        for k in range(style.crowd * 2):
            side = 1 if k % 2 else -1
            edge = style.road_right if side > 0 else style.road_left
            u = side * (edge + float(rng.uniform(0.7, style.pavement - 0.3)))
            pace = float(rng.choice([-1, 1]) * rng.uniform(0.0, 1.6))
            self._people.append((Mover(u, float(rng.uniform(0, 70)), pace, 70.0), make_person(rng)))

    @staticmethod
    def _paints(rng: np.random.Generator, count: int) -> list[tuple[CarKind, Colour]]:
        kinds = rng.choice(len(CARS), count, p=(0.3, 0.22, 0.18, 0.12, 0.1, 0.08))
        return [(CARS[int(k)], vary(rng, PAINTS[int(rng.integers(len(PAINTS)))], 8)) for k in kinds]

    def items(self, camera: Camera, t: float) -> Iterator[tuple[Item, Shadow]]:
        """The items to draw at time `t`, each with its shadow."""
        style = self.style
        at = camera.s + self._lead_gap
        for (kind, paint), phase in zip(self._lead, self._lead_phase, strict=True):
            where = (0.12 * float(np.sin(0.5 * t + phase)), at + 4.0 * float(np.sin(0.23 * t + phase)))
            draw = partial(draw_car, kind=kind, paint=paint, at=where, shows_rear=True)
            yield Item(where[1], CARRIAGEWAY, 130.0, draw), car_shadow(style, kind, where)
            at += kind.length + 18.0
        for mover, kind, paint in self._oncoming:
            where = (mover.u, mover.place(camera.s, t))
            draw = partial(draw_car, kind=kind, paint=paint, at=where, shows_rear=False)
            yield Item(where[1], CARRIAGEWAY, 150.0, draw), car_shadow(style, kind, where)
        for mover, person, direction in self._cyclists:
            where = (mover.u, mover.place(camera.s, t))
            cyclist = partial(draw_cyclist, person=person, at=where, direction=direction, t=t)
            yield Item(where[1], CARRIAGEWAY, 70.0, cyclist), _moved(self._rider_shadow, where, 0.9)
        for mover, person in self._people:
            where = (mover.u, mover.place(camera.s, t))
            walker = partial(draw_person, person=person, at=where, t=t)
            yield Item(where[1], KERBSIDE, 70.0, walker), _moved(self._walker_shadow, where, 0.25)

    def _round_shadow(self, half: float, depth: float) -> np.ndarray:
        """The shadow of a person at the origin."""
        reach = -1.1 * self.style.sun_side if self.style.light.sun else 0.0
        ring = bodies.CIRCLE * (half + abs(reach) / 2, depth) + (reach / 2, 0)
        return np.column_stack([ring[:, 0], np.zeros(len(ring)), ring[:, 1]])


def _moved(shadow: np.ndarray, at: tuple[float, float], depth: float) -> Shadow:
    return Shadow(np.add(shadow, (at[0], 0.0, at[1])), at[1] - depth, at[1] + depth)
