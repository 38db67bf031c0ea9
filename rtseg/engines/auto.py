"""What 'auto' runs: the fastest engine and precision on this machine, measured once and remembered.

On a GPU that is TensorRT in FP16. On a CPU the installed engines are measured at the size asked for, beside the loop's
other work. INT8 is taken only if it loses next to nothing and is clearly faster here.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import time
from typing import Any, NamedTuple

from rtseg.core.card import PRECISIONS, Card
from rtseg.core.errors import EngineError, OutputError, UsageError
from rtseg.core.files import read_json, write_json
from rtseg.core.machine import cache_folder, cores, cpu_name
from rtseg.core.registry import unknown_name
from rtseg.core.runspec import AUTO
from rtseg.core.sizes import format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import EngineOptions
from rtseg.engines.rate import WHOLE, Fps, Measured, Rate, as_rate, measure_rates
from rtseg.engines.table import ENGINES, TABLE, available, check_stops, distribution, install_hint, missing

MAX_LOSS = 0.005
"""Loss of mIoU; INT8 that loses more is never chosen automatically."""
_KEPT_S, _KEPT_BUSY_S = 30 * 86400.0, 600.0  # how long a measurement is valid, and one that was disturbed
_BUSY = "the machine was busy: it will be measured again"
_FIGURE = "fps beside the loop's other work"  # what is remembered; entries for other figures are not used
_CLEARLY = 1.05  # a later form must be this much faster; smaller differences may be noise

_log = logging.getLogger(__name__)

Measure = Callable[[Artifact, str, Sequence[str], EngineOptions], Measured]


class Form(NamedTuple):
    """An engine, and the precision in which it runs a network."""

    engine: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Selection:
    """What runs, and why.

    Attributes:
        engine: its name in the engine table.
        precision: 'fp32', 'fp16' or 'int8'.
        why: the reason, in one line; empty if both were named.
        rates: how fast each measured form was, or why it did not run.
    """

    engine: str
    precision: str
    why: str = ""
    rates: Mapping[Form, Rate] | None = None


def select(
    engine: str, precision: str, artifact: Artifact, options: EngineOptions, measure: Measure | None = None
) -> Selection:
    """Decides what 'auto' means for a network on this machine; a named engine or precision is never replaced.

    Args:
        engine: a name, or 'auto'.
        precision: 'fp32', 'fp16', 'int8', or 'auto'.
        artifact: the network.
        options: size, threads, pictures in flight, exits; its precision is not used.
        measure: measures one engine; default: `measure_rates`. Called only if there is a choice that was not measured
            before.

    Raises:
        UsageError: unknown engine or precision.
        EngineError: the engine's package or GPU is missing, or no installed engine runs the network.
    """
    if precision not in (AUTO, *PRECISIONS):
        raise unknown_name("precision", precision, [AUTO, *PRECISIONS])
    forms, note = _forms(candidates(engine, artifact, options.exits), precision, artifact.card, options.exits)
    if len(forms) == 1:
        why = "" if AUTO not in (engine, precision) else f"the only choice here{f': {note}' if note else ''}"
        return Selection(*forms[0], why)
    rates, steady = _remembered(artifact, forms, options, measure or measure_rates)
    best = fastest(forms, rates)
    notes = [said for said in (note, "" if steady else _BUSY) if said]
    return Selection(*best, _why(best, rates, options, artifact.card, notes), rates)


def rates(
    engine: str, precision: str, artifact: Artifact, options: EngineOptions, measure: Measure
) -> dict[Form, Rate]:
    """The speed of every form that `select` may choose, measured once and remembered.

    Raises what `select` does.
    """
    forms, _ = _forms(candidates(engine, artifact, options.exits), precision, artifact.card, options.exits)
    return _remembered(artifact, forms, options, measure)[0]


def fastest(forms: Sequence[Form], rates: Mapping[Form, Rate]) -> Form:
    """The first form that ran, or a later one that is clearly faster; the first of all if none ran."""
    running = {form: rate.beside for form in forms if isinstance(rate := rates[form], Fps)}
    best = next(iter(running), forms[0])
    for form, fps in running.items():
        if fps > _CLEARLY * running[best]:
            best = form
    return best


def int8_problem(card: Card, exits: bool = False) -> str | None:
    """Why the INT8 form of a network, or of its exits, is not chosen automatically; None if it may be."""
    if exits and not all("int8" in each.files for each in card.exits):
        return "its exits have no INT8 files"
    if "int8" not in card.files:
        return "it has no INT8 file"
    lost = [figures["lost"] for figures in card.figures("int8").values() if figures.get("lost") is not None]
    if not lost:
        return "the loss of its INT8 form was not measured"
    if max(lost) > MAX_LOSS:
        return f"its INT8 form loses {max(lost):.3f} mIoU, more than {MAX_LOSS}"
    return None


def candidates(engine: str, artifact: Artifact, exits: bool = False) -> list[str]:
    """The engines that a name may mean for a network; with `exits`, only those that can stop at exits.

    'auto' means TensorRT alone if it works, except for a network that outputs labels. Otherwise it means the installed
    engines of the card, in its order.

    Torch counts only if there is nothing else: it takes seconds to load and has been the slowest everywhere.

    Raises:
        UsageError: unknown engine, or one that cannot run this network.
        EngineError: its package or GPU is missing, or no engine is installed.
    """
    gives_labels = artifact.card.gives_labels
    if engine != AUTO:
        if gives_labels and TABLE[ENGINES.check(engine)].on_gpu:
            raise UsageError(f"{artifact.card.name} gives labels, and {engine} upsamples logits on the GPU: use "
                             "--engine onnxruntime or openvino")  # fmt: skip
        if exits:
            check_stops(engine)
        if (reason := missing(engine)) is not None:
            raise EngineError(reason)
        return [engine]
    if available("tensorrt") and not gives_labels and not exits:
        try:
            ENGINES.get("tensorrt")
            return ["tensorrt"]
        except (ImportError, OSError) as error:
            _log.warning("there is a GPU, but TensorRT cannot be loaded: %s", " ".join(str(error).split()))
    order = [name for name in artifact.card.engine_order if not exits or (name in ENGINES and TABLE[name].exits)]
    found = [name for name in order if name in ENGINES and available(name)]
    if not found:
        order = order or [name for name, entry in TABLE.items() if entry.exits]
        raise EngineError(f"none of the engines that {artifact.card.name} runs on is installed ({', '.join(order)}): "
                          f"{install_hint(order[0])}")  # fmt: skip
    return [name for name in found if name != "torch"] or found


def _forms(engines: Sequence[str], precision: str, card: Card, exits: bool) -> tuple[list[Form], str]:
    """The forms that may run, most accurate first, and why INT8 is not among them."""
    if precision != AUTO:
        able = [name for name in engines if precision == "fp32" or _has_int8(name, precision, card)]
        return [Form(name, precision) for name in able or engines[:1]], ""  # loading that one raises the reason
    forms = [Form(name, TABLE[name].auto) for name in engines]
    quick = [name for name in engines if TABLE[name].runs_int8]
    problem = int8_problem(card, exits) if quick else None
    if quick and problem is None:
        forms += [Form(name, "int8") for name in quick]
    return forms, problem or ""


def _has_int8(engine: str, precision: str, card: Card) -> bool:
    return precision == "int8" and TABLE[engine].runs_int8 and "int8" in card.files


def _why(best: Form, rates: Mapping[Form, Rate], options: EngineOptions, card: Card, notes: Sequence[str]) -> str:
    """One line: what was measured and, if INT8 was chosen, what it costs."""
    line = f"{_FIGURE}, measured here at {format_size(options.size_hw)}: {_told(rates)}"
    lost = {split: figures["lost"] for split, figures in card.figures("int8").items() if "lost" in figures}
    if best.precision == "int8" and lost:
        split, loss = max(lost.items(), key=lambda item: item[1])
        line += f"; int8 loses {max(0.0, loss):.3f} mIoU on {split}"
    return "; ".join([line, *notes, "--engine and --precision choose another"])


def _told(rates: Mapping[Any, Rate]) -> str:
    return ", ".join(
        f"{form} {rate.beside:.1f}" if isinstance(rate, Fps) else f"{form} does not run" for form, rate in rates.items()
    )


def _remembered(
    artifact: Artifact, forms: Sequence[Form], options: EngineOptions, measure: Measure
) -> tuple[dict[Form, Rate], bool]:
    """The rates from an earlier run with the same machine, network, size and versions; otherwise measures them now.

    Also returns whether they are steady. Rates from a busy machine are valid for minutes and never replace steady ones.
    """
    key = _key(artifact, forms, options)
    path = rates_folder() / f"{sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"
    entry = _entry(path, key)
    if entry is None or not 0 <= time() - entry["measured_at"] < (_KEPT_S if entry["steady"] else _KEPT_BUSY_S):
        rates, steady = _measured(artifact, forms, options, measure)
        if not any(isinstance(rate, Fps) for rate in rates.values()):
            return rates, True  # loading the first raises the reason, and the next run tries again
        if steady or entry is None or not entry["steady"]:
            entry = {"key": key, "rates": {str(form): rate for form, rate in rates.items()}, "steady": steady,
                     "measured_at": time()}  # fmt: skip
            try:
                write_json(path, entry)
            except OutputError as error:
                _log.warning("the engines will be measured again next time: %s", error)
    return {form: entry["rates"][str(form)] for form in forms}, entry["steady"]


def _entry(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """The remembered entry; None if it is missing, damaged, from an earlier version or for another key."""
    try:
        entry = read_json(path)
        whole = entry["key"] == key and set(entry["rates"]) == set(key["forms"])
        entry["rates"] = {form: as_rate(rate) for form, rate in entry["rates"].items()}
        return entry if whole and {"steady", "measured_at"} <= set(entry) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _measured(
    artifact: Artifact, forms: Sequence[Form], options: EngineOptions, measure: Measure
) -> tuple[dict[Form, Rate], bool]:
    by_engine: dict[str, list[str]] = {}
    for form in forms:
        by_engine.setdefault(form.engine, []).append(form.precision)
    _log.info("measuring %s: once for this machine, network and size", " and ".join(by_engine))
    found = {name: measure(artifact, name, precisions, options) for name, precisions in by_engine.items()}
    rates = {form: found[form.engine].rates[form.precision] for form in forms}
    return rates, all(one.steady for one in found.values())


def remembered() -> list[str]:
    """What was measured here so far, one line per network, size and thread count."""
    lines = []
    for path in sorted(rates_folder().glob("*.json")):
        try:
            entry = read_json(path)
            key, rates = entry["key"], {form: as_rate(rate) for form, rate in entry["rates"].items()}
            if key["figure"] != _FIGURE:
                continue
            what = (
                f"{key['network']} {format_size(key['size'])}, threads {key['threads']}, {key['in_flight']} in flight"
            )
            lines.append(f"{what}: {_told(rates)} {_FIGURE}" + ("" if entry["steady"] else f"; {_BUSY}"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged or from an older version: it will be measured again
    return sorted(lines)


def rates_folder() -> Path:
    """The folder of the measurements, one JSON file each."""
    return cache_folder() / "rates"


def _key(artifact: Artifact, forms: Sequence[Form], options: EngineOptions) -> dict[str, Any]:
    """Everything that the rates depend on, as plain JSON values."""
    files = artifact.card.files
    return {
        "figure": _FIGURE,
        "other_work": WHOLE,
        "cpu": cpu_name(),
        "cores": cores(),
        "network": artifact.card.name,
        "files": {precision: files[precision].sha256 for precision in sorted(files)},
        "size": list(options.size_hw),
        "threads": options.threads,
        "in_flight": options.in_flight,
        "forms": [str(form) for form in forms],
        "versions": {name: _version(distribution(name)) for name in dict.fromkeys(form.engine for form in forms)},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
