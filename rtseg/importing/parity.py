"""The gate for an imported network: an engine's labels must match those of the original graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtseg.core.errors import ParityError
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size, format_size
from rtseg.core.zoo import Artifact
from rtseg.engines import EngineOptions, load_engine
from rtseg.importing.probe import Answer
from rtseg.pictures.resize import resize_image
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes.scene import StreetScene

AGREEMENT = 0.999
"""Share of a picture's pixels whose label must match the original's."""
_DRIFT = 0.02  # the most that a score may be off, relative to the range of the original's scores


@dataclass(frozen=True)
class Parity:
    """How close the imported form is to the original.

    Attributes:
        agreement: the smallest share of equal labels in any picture.
        drift: the largest difference of a score, relative to their range.
        classes: number of different labels in the pictures; with just one, equal labels prove little.
    """

    agreement: float
    drift: float
    classes: int


def gate_pictures(size_hw: Size) -> list[np.ndarray]:
    """A street scene and noise, uint8 BGR (H, W, 3): smooth areas, and all values in random order."""
    noise = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), np.uint8)
    return [resize_image(StreetScene((180, 240), seed=1).render(0)[0], size_hw), noise]


def check_parity(
    engine: str, artifact: Artifact, size_hw: Size, pictures: Sequence[np.ndarray], expected: Sequence[Answer]
) -> Parity:
    """Compares an engine with the original's answers for the same pictures.

    Raises:
        ParityError: labels or scores differ.
        EngineError, WeightsError: the engine cannot run the graph.
    """
    agreement, drift, seen = 1.0, 0.0, set[int]()
    with load_engine(engine, artifact, EngineOptions(size_hw)) as opened:
        for picture, answer in zip(pictures, expected, strict=True):
            made = opened.infer(picture)
            where = f"{artifact.card.name} on {engine} at {format_size(size_hw)}"
            if made.shape != answer.scores.shape:
                raise ParityError(f"{where}: the output is {made.shape}; the original's is {answer.scores.shape}")
            if not np.isfinite(made).all():
                raise ParityError(f"{where}: the output holds infinity or NaN: look at the graph's weights, and at "
                                  "--mean, --std and --scale")  # fmt: skip
            share = _agreement(made, answer, artifact.card.labels, artifact.card.gives_labels, where)
            off = 0.0 if artifact.card.gives_labels else _drift(made, answer)
            if off > _DRIFT:
                raise ParityError(f"{where}: scores are off by up to {off:.1%} of their range; {_DRIFT:.0%} is allowed")
            agreement, drift = min(agreement, share), max(drift, off)
            seen |= set(np.unique(answer.labels).tolist())
    return Parity(agreement, drift, len(seen))


def _drift(made: np.ndarray, answer: Answer) -> float:
    span = float(answer.scores.max() - answer.scores.min())
    return float(np.abs(made - answer.scores).max()) / max(span, 1e-6)


def _agreement(made: np.ndarray, answer: Answer, labels: LabelSet, ids: bool, where: str) -> float:
    height, width = answer.labels.shape
    given = made[0].astype(np.int64) if ids else upsample_labels(np.ascontiguousarray(made), (height, width))
    differ = given != answer.labels
    share = 1 - float(differ.mean())
    if share < AGREEMENT:
        worst = int(np.bincount(answer.labels[differ], minlength=len(labels)).argmax())
        raise ParityError(f"{where}: only {share:.2%} of the pixels have the original's label, {AGREEMENT:.1%} are "
                          f"needed; most that differ are {labels.names[worst]!r} there")  # fmt: skip
    return share
