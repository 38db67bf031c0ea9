"""Inference engines: one file each, its vendor library imported only when the engine is loaded."""

from importlib.util import find_spec

from rtseg.core.errors import EngineError
from rtseg.core.registry import Registry
from rtseg.core.weights import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions
from rtseg.engines.pool import EnginePool

__all__ = ["ENGINES", "Engine", "EngineInfo", "EngineOptions", "available", "choose_engine", "load_engine"]

ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {
        "onnxruntime": "rtseg.engines.onnxruntime_engine:OnnxRuntimeEngine",
        "openvino": "rtseg.engines.openvino_engine:OpenVinoEngine",
        "torch": "rtseg.engines.torch_engine:TorchEngine",
    },
)

# engine -> (module that must be importable, how to install it)
_NEEDS = {
    "onnxruntime": ("onnxruntime", "pip install onnxruntime"),
    "openvino": ("openvino", "pip install openvino"),
    "torch": ("torch", "pip install 'rtseg[train]'"),
}


def available(name: str) -> bool:
    """Whether the engine's package is installed (it is not imported)."""
    return find_spec(_NEEDS[ENGINES.check(name)][0]) is not None


def install_hint(name: str) -> str:
    return _NEEDS[ENGINES.check(name)][1]


def choose_engine(artifact: Artifact) -> str:
    """What `auto` means for a network: the first engine of its card's measured order that is installed."""
    for name in artifact.card.engine_order:
        if name in ENGINES and available(name):
            return name
    wanted = ", ".join(artifact.card.engine_order)
    raise EngineError(f"none of the engines that {artifact.card.name} runs on is installed ({wanted}): "
                      f"{install_hint(artifact.card.engine_order[0])}")  # fmt: skip


def load_engine(name: str, artifact: Artifact, options: EngineOptions) -> Engine:
    """Loads a network into the engine `name`; 'auto' picks one by the card's measured order.

    Raises:
        UsageError: unknown engine, or a size or precision that does not fit.
        EngineError: the engine's package is missing, or it cannot load the graph.
        WeightsError: the weight file is missing or damaged.
    """
    chosen = choose_engine(artifact) if name == "auto" else ENGINES.check(name)
    if not available(chosen):
        raise EngineError(f"engine {chosen} needs a package that is not installed: {install_hint(chosen)}")
    make = ENGINES.get(chosen)
    return EnginePool(make, artifact, options) if options.in_flight > 1 else make(artifact, options)
