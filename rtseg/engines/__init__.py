"""Inference engines, one file each; a vendor library is imported only when its engine is loaded."""

from dataclasses import replace

from rtseg.core.runspec import AUTO
from rtseg.core.zoo import Artifact
from rtseg.engines.auto import Selection, candidates, select
from rtseg.engines.base import Engine, EngineInfo, EngineOptions
from rtseg.engines.table import (
    ENGINES,
    TABLE,
    EngineEntry,
    available,
    distribution,
    install_hint,
    load_named,
    missing,
)

__all__ = [
    "AUTO",
    "ENGINES",
    "TABLE",
    "Engine",
    "EngineEntry",
    "EngineInfo",
    "EngineOptions",
    "Selection",
    "available",
    "candidates",
    "distribution",
    "install_hint",
    "load_engine",
    "missing",
    "select",
]


def load_engine(name: str, artifact: Artifact, options: EngineOptions) -> Engine:
    """Loads a network into the engine `name`; `select` decides about 'auto' as name or precision.

    Raises:
        UsageError: unknown engine or precision, or a size or precision that does not fit.
        EngineError: the engine's package or GPU is missing, or it cannot load the graph.
        WeightsError: the weight file is missing or damaged.
    """
    chosen = select(name, options.precision, artifact, options)
    engine = load_named(chosen.engine, artifact, replace(options, precision=chosen.precision))
    engine.info = replace(engine.info, why=chosen.why)
    return engine
