"""Inference engines: one file each, its vendor library imported only when the engine is loaded."""

import logging
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec

from rtseg.core.errors import EngineError
from rtseg.core.registry import Registry
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions
from rtseg.engines.cuda.device import gpu_problem
from rtseg.engines.pool import EnginePool

__all__ = [
    "ENGINES",
    "ON_GPU",
    "Engine",
    "EngineInfo",
    "EngineOptions",
    "available",
    "choose_engine",
    "load_engine",
    "missing",
    "runnable",
]

_log = logging.getLogger(__name__)

ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {
        "onnxruntime": "rtseg.engines.onnxruntime_engine:OnnxRuntimeEngine",
        "openvino": "rtseg.engines.openvino_engine:OpenVinoEngine",
        "tensorrt": "rtseg.engines.tensorrt.engine:TensorRtEngine",
        "torch": "rtseg.engines.torch_engine:TorchEngine",
        "onnxruntime-cuda": "rtseg.engines.cuda.onnxruntime_engine:OnnxRuntimeCudaEngine",
        "torch-cuda": "rtseg.engines.cuda.torch_engine:TorchCudaEngine",
    },
)

# engine -> (module that must be importable, how to install it)
_NEEDS = {
    "onnxruntime": ("onnxruntime", "pip install onnxruntime"),
    "openvino": ("openvino", "pip install openvino"),
    "tensorrt": ("tensorrt", "pip install 'rtseg[tensorrt]'"),
    "torch": ("torch", "pip install 'rtseg[train]'"),
    "onnxruntime-cuda": ("onnxruntime", "pip install onnxruntime-gpu"),
    "torch-cuda": ("torch", "pip install 'rtseg[train]'"),
}
ON_GPU = frozenset({"tensorrt", "onnxruntime-cuda", "torch-cuda"})


def available(name: str) -> bool:
    """Whether the engine's package is installed (it is not imported) and, where it needs one, a GPU can be used."""
    return missing(name) is None


def missing(name: str) -> str | None:
    """Why an engine cannot run on this machine and what to do about it, in one line; None where it can."""
    package, hint = _NEEDS[ENGINES.check(name)]
    if find_spec(package) is None:
        return f"engine {name} needs a package that is not installed: {hint}"
    if name in ON_GPU and (problem := gpu_problem()) is not None:
        return f"engine {name} needs an NVIDIA GPU: {problem}"
    return None


@cache
def distribution(name: str) -> str:
    """The installed package that an engine's module comes from, as `importlib.metadata` knows it; else the module."""
    module = _NEEDS[ENGINES.check(name)][0]
    return sorted(packages_distributions().get(module, [module]))[0]


def install_hint(name: str) -> str:
    return _NEEDS[ENGINES.check(name)][1]


def choose_engine(artifact: Artifact) -> str:
    """What `auto` means for a network: TensorRT where it works, else the first of its card's order that is installed.

    The order of a card was measured on a CPU.
    """
    if available("tensorrt"):
        try:
            ENGINES.get("tensorrt")
            return "tensorrt"
        except (ImportError, OSError) as error:
            _log.warning("a GPU is there, but TensorRT cannot be loaded: %s", " ".join(str(error).split()))
    for name in artifact.card.engine_order:
        if name in ENGINES and available(name):
            return name
    wanted = ", ".join(artifact.card.engine_order)
    raise EngineError(f"none of the engines that {artifact.card.name} runs on is installed ({wanted}): "
                      f"{install_hint(artifact.card.engine_order[0])}")  # fmt: skip


def runnable(name: str, artifact: Artifact) -> str:
    """The engine that a name means for a network, 'auto' included.

    Raises:
        UsageError: unknown engine.
        EngineError: its package or GPU is missing.
    """
    chosen = choose_engine(artifact) if name == "auto" else ENGINES.check(name)
    if (reason := missing(chosen)) is not None:
        raise EngineError(reason)
    return chosen


def load_engine(name: str, artifact: Artifact, options: EngineOptions) -> Engine:
    """Loads a network into the engine `name`; 'auto' is what `choose_engine` says.

    Raises:
        UsageError: unknown engine, or a size or precision that does not fit.
        EngineError: the engine's package or GPU is missing, or it cannot load the graph.
        WeightsError: the weight file is missing or damaged.
    """
    chosen = runnable(name, artifact)
    try:
        kind = ENGINES.get(chosen)
    except (ImportError, OSError) as error:  # a shared library of the package is missing, or of another version
        said = " ".join(str(error).split())
        raise EngineError(
            f"engine {chosen} is installed but cannot be loaded ({said}): {install_hint(chosen)}"
        ) from error
    if options.in_flight > 1 and chosen not in ON_GPU:  # a GPU takes turns by itself
        return EnginePool(kind, artifact, options)
    return kind(artifact, options)
