"""Opens the rungs that a deadline chooses from: the networks, sizes and precisions worth their time on this machine."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import NamedTuple

from rtseg.core.card import Card
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Frame
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, parse_size, scaled
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import Artifact, models, resolve
from rtseg.engines import EngineOptions, load_engine
from rtseg.engines.auto import Form, Measure, fastest, rates
from rtseg.engines.rate import Fps, Rate, measure_rates
from rtseg.live.agreement import Curve, agreement, at_size
from rtseg.live.bench import miou_of_card
from rtseg.live.rung import Rung, pareto, spread
from rtseg.live.segmenter import Loader, Segmenter
from rtseg.live.spec import check_spec, default_size
from rtseg.sources.synthetic import SyntheticSource

MOST = 8
"""How many rungs stay warm at most."""
FACTORS = (0.375, 0.5, 0.625, 0.75, 0.875, 1.25)
"""Input sizes to try, as factors of the size that a network uses by default."""
_SLACK = 0.05  # tolerance of a factor, since sizes are rounded to what a network takes
_WARM_UP, _RUNS, _PICTURES = 2, 9, 3
_PAUSE_S = 0.02  # before each timed run, as with a camera: cores sleep and caches cool, which slows small networks


_log = logging.getLogger(__name__)


class Step(NamedTuple):
    """A rung that is ready to run."""

    rung: Rung
    segmenter: Segmenter


def wishes(wish: RunSpec, model: str | Path | None = None) -> list[RunSpec]:
    """One spec per network, with the engine, precision, size and threads of `wish`; `model` None: all that ship.

    Of those that ship, takes the ones that have the default network's classes and accept the size; the default if
    none does.
    """
    if model is not None:
        return [replace(wish, model=model)]
    cards = models()
    classes = resolve(RunSpec.model).card.labels
    able = [name for name, card in cards.items() if card.labels == classes and _takes(card, wish.size_hw)]
    return [replace(wish, model=name) for name in able] or [replace(wish, model=RunSpec.model)]


def _takes(card: Card, size_hw: Size | None) -> bool:
    return size_hw is None or card.nearest_size(size_hw) == size_hw


class Ladder:
    """Rungs of one or more networks that know the same classes.

    The time of a network at its own size is measured as `auto` does it, once per machine; the time at other sizes is
    estimated from that. A rung's score is the mIoU that the network's card states for its precision (1 if it states
    none), times the share of it that is left at the rung's size. That share is what the card states for the size, or
    else how well the network's labels agree with those at its own size. Rungs that another beats in both time and
    score, or that take longer than allowed, are left out. Of the rest at most eight are opened and timed from frame to
    labels.

    Args:
        specs: the networks, and how to run them; a setting that is given is never replaced.
        tell: called with a few words on what is being done, since the first time takes a while.
        loader: builds an engine.
        measure: measures an engine; default: `measure_rates`.

    Raises:
        UsageError: no network, a setting that does not fit one, or networks of different classes.
        WeightsError: a file or its card is missing or damaged.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        *,
        tell: Callable[[str], object] = lambda text: None,
        loader: Loader = load_engine,
        measure: Measure | None = None,
    ) -> None:
        if not specs:
            raise UsageError("a ladder needs a network: give one, or leave the networks out for all that ship")
        self._specs = [replace(spec, model=check_spec(spec)) for spec in specs]
        self._tell, self._loader, self._measure = tell, loader, measure or measure_rates
        self.budget = thread_budget(specs[0].threads)
        cards = [resolve(spec.model).card for spec in self._specs]
        for card in cards:
            if card.labels != cards[0].labels:
                raise UsageError(f"{card.name} knows other classes than {cards[0].name}: a ladder needs the same")
        self.card: Card = max(cards, key=lambda card: max(miou_of_card(card).values(), default=0.0))

    def open(self, frame_hw: Size, most_s: float) -> list[Step]:
        """The rungs for frames of one size, loaded and warm, fastest first.

        Args:
            frame_hw: height and width of the frames.
            most_s: seconds; rungs known to take longer are left out, except for the fastest.

        Raises:
            EngineError: no network runs here.
        """
        steps: list[Step] = []
        try:
            for rung in self.plan(frame_hw, most_s):
                self._tell(f"loading {rung}")
                steps.append(Step(rung, self._segmenter(rung)))
                steps[-1].segmenter.prepare(frame_hw)
            self._tell("timing them")
            taken = time_in_turn([step.segmenter for step in steps], _streets(frame_hw))
        except BaseException:
            for step in steps:
                step.segmenter.close()
            raise
        return _front([Step(replace(rung, seconds=s), runs) for (rung, runs), s in zip(steps, taken, strict=True)])

    def plan(self, frame_hw: Size, most_s: float) -> list[Rung]:
        """The rungs worth opening, with the seconds that each is expected to take; fastest first."""
        found = [rung for spec in self._specs for rung in self._candidates(spec, frame_hw)]
        if not found:
            raise EngineError("none of the networks runs here, for the reasons above: rtseg doctor shows what works")
        return choose(found, most_s)

    def _candidates(self, spec: RunSpec, frame_hw: Size) -> list[Rung]:
        artifact = resolve(spec.model)
        card = artifact.card
        own_hw = spec.size_hw or default_size(card, frame_hw)
        self._tell(f"measuring {card.name} at {format_size(own_hw)}: once on this machine")
        options = EngineOptions(own_hw, threads=self.budget.engine)
        measured = rates(spec.engine, spec.precision, artifact, options, self._measure)
        forms = best_forms(measured)
        if not forms:
            _log.warning("%s is left out: %s", card.name, "; ".join(f"{form}: {why}" for form, why in measured.items()))
        sizes, curve = {own_hw: 1.0}, [(1.0, 1.0)]
        if forms and spec.size_hw is None and card.fixed_size is None:
            curve = scores_by_size(card) or self._agreement(artifact, own_hw, next(iter(forms)))
            sizes = other_sizes(card, own_hw, curve)
        return [
            Rung(card.name, *form, size_hw, figure(card, form.precision) * at_size(curve, factor), factor**2 / rate)
            for form, rate in forms.items()
            for size_hw, factor in sizes.items()
        ]

    def _agreement(self, artifact: Artifact, own_hw: Size, form: Form) -> Curve:
        def open_at(size_hw: Size) -> Segmenter:
            spec = RunSpec(artifact, *form, size_hw, self.budget.total)
            return Segmenter(spec, budget=self.budget, loader=self._loader)

        self._tell(f"comparing sizes of {artifact.card.name}: once on this machine")
        return agreement(artifact, own_hw, form.precision, open_at)

    def _segmenter(self, rung: Rung) -> Segmenter:
        (artifact,) = (spec.model for spec in self._specs if resolve(spec.model).card.name == rung.model)
        spec = RunSpec(artifact, rung.engine, rung.precision, rung.size_hw, self.budget.total)
        return Segmenter(spec, budget=self.budget, loader=self._loader)


def best_forms(found: Mapping[Form, Rate]) -> dict[Form, float]:
    """The fastest engine in the loop for each precision that runs, and its pictures per second alone."""
    best: dict[str, dict[Form, Rate]] = {}
    for form, rate in found.items():
        if isinstance(rate, Fps):
            best.setdefault(form.precision, {})[form] = rate
    chosen = [fastest(list(rates), rates) for rates in best.values()]
    return {form: rate.alone for form in chosen if isinstance(rate := found[form], Fps)}


def figure(card: Card, precision: str) -> float:
    """The mIoU that a card states for a precision; 1 if it states none."""
    return max(miou_of_card(card, precision).values(), default=1.0)


def scores_by_size(card: Card) -> Curve:
    """The scores that a card states for other input sizes, as shares of its own; empty if it states none."""
    own_hw = card.train_size
    for figures in card.figures().values():
        if stated := figures.get("sizes"):
            by_factor = {_factor(parse_size(size), own_hw): miou / figures["miou"] for size, miou in stated.items()}
            return sorted({**by_factor, 1.0: 1.0}.items())
    return []


def _factor(size_hw: Size, own_hw: Size) -> float:
    """The factor in height and width between two sizes, from their pixel counts."""
    return sqrt(size_hw[0] * size_hw[1] / (own_hw[0] * own_hw[1]))


def other_sizes(card: Card, own_hw: Size, curve: Curve) -> dict[Size, float]:
    """Input sizes that the network takes, within the curve's range -> their factor of its own size."""
    sizes = [own_hw, *(card.nearest_size(scaled(own_hw, factor)) for factor in FACTORS)]
    factors = {size: _factor(size, own_hw) for size in sizes}
    return {size: factor for size, factor in factors.items() if curve[0][0] - _SLACK <= factor <= curve[-1][0] + _SLACK}


def choose(found: list[Rung], most_s: float) -> list[Rung]:
    """The rungs worth their time that take at most `most_s`, evenly spread; if there are none, the fastest."""
    front = pareto(found)
    return spread([rung for rung in front if rung.seconds <= most_s] or front[:1], MOST)


def _front(steps: list[Step]) -> list[Step]:
    """The steps worth the time that was measured; closes the others."""
    kept = pareto([step.rung for step in steps])
    for step in steps:
        if step.rung not in kept:
            step.segmenter.close()
    return [step for rung in kept for step in steps if step.rung is rung]


def _streets(size_hw: Size) -> list[Frame]:
    with SyntheticSource(size_hw) as source:
        return [frame for frame in (source.read() for _ in range(_PICTURES)) if frame is not None]


def time_in_turn(segmenters: Sequence[Segmenter], frames: Sequence[Frame]) -> list[float]:
    """The median seconds from a frame to its labels for each; they take turns, so a busy moment hits all of them."""
    taken: list[list[float]] = [[] for _ in segmenters]
    for run in range(_WARM_UP + _RUNS):
        for segmenter, seconds in zip(segmenters, taken, strict=True):
            sleep(_PAUSE_S)
            start = perf_counter()
            segmenter.submit(frames[run % len(frames)])
            segmenter.collect()
            seconds.append(perf_counter() - start)
    return [median(seconds[_WARM_UP:]) for seconds in taken]
