"""Inference engines: one file each, its vendor library imported only when the engine is loaded."""

import logging
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from typing import NamedTuple

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.registry import Registry
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions
from rtseg.engines.cuda.device import gpu_problem
from rtseg.engines.pool import EnginePool

__all__ = [
    "ENGINES",
    "TABLE",
    "Engine",
    "EngineEntry",
    "EngineInfo",
    "EngineOptions",
    "available",
    "choose_engine",
    "load_engine",
    "missing",
    "runnable",
]

_log = logging.getLogger(__name__)


class EngineEntry(NamedTuple):
    """What is known of an engine without importing it.

    Attributes:
        target: "module:class"; the module imports the vendor's library.
        needs: module that must be importable.
        install: how to get it.
        on_gpu: whether it runs on an NVIDIA GPU, which takes turns by itself; each of its Ray workers asks for one.
    """

    target: str
    needs: str
    install: str
    on_gpu: bool = False


TABLE = {
    "onnxruntime": EngineEntry(
        "rtseg.engines.onnxruntime_engine:OnnxRuntimeEngine", "onnxruntime", "pip install onnxruntime"
    ),
    "openvino": EngineEntry("rtseg.engines.openvino_engine:OpenVinoEngine", "openvino", "pip install openvino"),
    "tensorrt": EngineEntry(
        "rtseg.engines.tensorrt.engine:TensorRtEngine", "tensorrt", "pip install 'rtseg[tensorrt]'", on_gpu=True
    ),
    "torch": EngineEntry("rtseg.engines.torch_engine:TorchEngine", "torch", "pip install 'rtseg[train]'"),
    "onnxruntime-cuda": EngineEntry(
        "rtseg.engines.cuda.onnxruntime_engine:OnnxRuntimeCudaEngine", "onnxruntime", "pip install onnxruntime-gpu",
        on_gpu=True,
    ),
    "torch-cuda": EngineEntry(
        "rtseg.engines.cuda.torch_engine:TorchCudaEngine", "torch", "pip install 'rtseg[train]'", on_gpu=True
    ),
}  # fmt: skip
ENGINES: Registry[type[Engine]] = Registry("engine", {name: entry.target for name, entry in TABLE.items()})


def available(name: str) -> bool:
    """Whether the engine's package is installed (it is not imported) and, where it needs one, a GPU can be used."""
    return missing(name) is None


def missing(name: str) -> str | None:
    """Why an engine cannot run on this machine and what to do about it, in one line; None where it can."""
    entry = TABLE[ENGINES.check(name)]
    if find_spec(entry.needs) is None:
        return f"engine {name} needs a package that is not installed: {entry.install}"
    if entry.on_gpu and (problem := gpu_problem()) is not None:
        return f"engine {name} needs an NVIDIA GPU: {problem}"
    return None


@cache
def distribution(name: str) -> str:
    """The installed package that an engine's module comes from, as `importlib.metadata` knows it; else the module."""
    module = TABLE[ENGINES.check(name)].needs
    return sorted(packages_distributions().get(module, [module]))[0]


def install_hint(name: str) -> str:
    return TABLE[ENGINES.check(name)].install


def choose_engine(artifact: Artifact) -> str:
    """What `auto` means for a network: TensorRT where it works, else the first of its card's order that is installed.

    The order of a card was measured on a CPU. TensorRT is passed over where a network gives labels.
    """
    if available("tensorrt") and not artifact.card.gives_labels:
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
        UsageError: unknown engine, or one that cannot run this network.
        EngineError: its package or GPU is missing.
    """
    chosen = choose_engine(artifact) if name == "auto" else ENGINES.check(name)
    if artifact.card.gives_labels and TABLE[chosen].on_gpu:
        raise UsageError(f"{artifact.card.name} gives labels, and {chosen} upsamples logits on the GPU: use --engine "
                         "onnxruntime or openvino")  # fmt: skip
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
    if options.in_flight > 1 and not TABLE[chosen].on_gpu:
        return EnginePool(kind, artifact, options)
    return kind(artifact, options)
