"""Estimates without ground truth what a network loses at a smaller input: how well it agrees with its own full size.

Measured on procedural street pictures, at one half and three quarters of the size, once per network.
"""

import json
import logging
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.core.errors import OutputError
from rtseg.core.files import read_json, write_json
from rtseg.core.machine import cache_folder
from rtseg.core.sizes import Size, scaled
from rtseg.core.zoo import Artifact
from rtseg.live.segmenter import Segmenter
from rtseg.sources.synthetic import SyntheticSource

FACTORS = (0.5, 0.75)
_PICTURES = 6

_log = logging.getLogger(__name__)

Open = Callable[[Size], Segmenter]
"""Opens a segmenter of the network with an input size."""
Curve = list[tuple[float, float]]
"""(factor of the input size, share of the pixels that keep their full-size label), small to large."""


def agreement(artifact: Artifact, full_hw: Size, precision: str, open_at: Open) -> Curve:
    """How well the labels at smaller inputs agree with those at `full_hw`; remembered on this machine.

    Raises what a segmenter does.
    """
    digest = artifact.card.files[precision if precision in artifact.card.files else "fp32"].sha256
    key = {"network": digest, "size": list(full_hw), "pictures": _PICTURES}
    name = sha256(json.dumps(key).encode()).hexdigest()[:24]
    return _remembered(
        cache_folder() / "agreement" / f"{name}.json", key, partial(_measured, artifact, full_hw, open_at)
    )


def at_size(curve: Curve, factor: float) -> float:
    """The agreement at a factor of the input size, interpolated linearly between those measured."""
    factors, shares = zip(*curve, strict=True)
    return float(np.interp(factor, factors, shares))


def _remembered(path: Path, key: dict[str, Any], measure: Callable[[], Curve]) -> Curve:
    try:
        entry = read_json(path)
        if entry["key"] == key:
            return [(float(factor), float(share)) for factor, share in entry["curve"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing or damaged: it is measured again
    curve = measure()
    try:
        write_json(path, {"key": key, "curve": curve})
    except OutputError as error:
        _log.warning("how networks agree will be measured again next time: %s", error)
    return curve


def _measured(artifact: Artifact, full_hw: Size, open_at: Open) -> Curve:
    pictures = _streets(full_hw)
    full = _labels(open_at(full_hw), pictures)
    sizes = {factor: artifact.card.nearest_size(scaled(full_hw, factor)) for factor in FACTORS}
    shares = [(f, float((_labels(open_at(size), pictures) == full).mean())) for f, size in sizes.items()]
    return [*shares, (1.0, 1.0)]


def _streets(size_hw: Size) -> list[np.ndarray]:
    pictures = []
    for seed in range(_PICTURES):
        with SyntheticSource(size_hw, seed) as source:
            pictures += [frame.image for frame in [source.read()] if frame is not None]
    return pictures


def _labels(segmenter: Segmenter, pictures: list[np.ndarray]) -> np.ndarray:
    with segmenter:
        return np.stack([segmenter(picture) for picture in pictures])
