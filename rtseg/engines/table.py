"""The table of engines; a vendor library is imported only when its engine is loaded."""

from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from typing import NamedTuple

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.registry import Registry
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineOptions
from rtseg.engines.cuda.device import gpu_problem
from rtseg.engines.pool import EnginePool


class EngineEntry(NamedTuple):
    """What is known about an engine without importing it.

    Attributes:
        target: "module:class"; the module imports the vendor's library.
        needs: a module that must be importable.
        install: how to install it.
        on_gpu: whether it runs on an NVIDIA GPU; then it handles pictures in flight itself, without a pool, and each of
            its Ray workers asks for a GPU.
        exits: whether it can stop at a network's exits.
        runs_int8: whether it can run a network's INT8 file.
        auto: the precision that 'auto' takes unless the INT8 file is faster.
    """

    target: str
    needs: str
    install: str
    on_gpu: bool = False
    exits: bool = False
    runs_int8: bool = False
    auto: str = "fp32"


TABLE = {
    "onnxruntime": EngineEntry(
        "rtseg.engines.onnxruntime_engine:OnnxRuntimeEngine", "onnxruntime", "pip install onnxruntime", exits=True,
        runs_int8=True,
    ),
    "openvino": EngineEntry(
        "rtseg.engines.openvino_engine:OpenVinoEngine", "openvino", "pip install openvino", exits=True, runs_int8=True
    ),
    "tensorrt": EngineEntry(
        "rtseg.engines.tensorrt.engine:TensorRtEngine", "tensorrt", "pip install 'rtseg[tensorrt]'", on_gpu=True,
        auto="fp16",
    ),
    "torch": EngineEntry("rtseg.engines.torch_engine:TorchEngine", "torch", "pip install 'rtseg[train]'"),
    "onnxruntime-cuda": EngineEntry(
        "rtseg.engines.cuda.onnxruntime_engine:OnnxRuntimeCudaEngine", "onnxruntime", "pip install onnxruntime-gpu",
        on_gpu=True,
    ),
    "torch-cuda": EngineEntry(
        "rtseg.engines.cuda.torch_engine:TorchCudaEngine", "torch", "pip install 'rtseg[train]'", on_gpu=True,
        auto="fp16",
    ),
}  # fmt: skip
ENGINES: Registry[type[Engine]] = Registry("engine", {name: entry.target for name, entry in TABLE.items()})


def available(name: str) -> bool:
    """Whether the engine's package is installed (without importing it) and, if it needs a GPU, one can be used."""
    return missing(name) is None


def missing(name: str) -> str | None:
    """Why an engine cannot run on this machine and how to fix it, in one line; None if it can."""
    entry = TABLE[ENGINES.check(name)]
    if find_spec(entry.needs) is None:
        return f"engine {name} needs a package that is not installed: {entry.install}"
    if entry.on_gpu and (problem := gpu_problem()) is not None:
        return f"engine {name} needs an NVIDIA GPU: {problem}"
    return None


@cache
def distribution(name: str) -> str:
    """The installed package that provides an engine's module, by its name in `importlib.metadata`; or the module."""
    module = TABLE[ENGINES.check(name)].needs
    try:
        version(module)  # most have the module's name; searching all packages takes half a second
        return module
    except PackageNotFoundError:
        return sorted(packages_distributions().get(module, [module]))[0]


def install_hint(name: str) -> str:
    """The command that installs an engine's package."""
    return TABLE[ENGINES.check(name)].install


def check_stops(name: str) -> None:
    """Raises UsageError unless the engine can stop at a network's exits, installed or not."""
    if not TABLE[ENGINES.check(name)].exits:
        able = " or ".join(other for other, entry in TABLE.items() if entry.exits)
        raise UsageError(f"{name} cannot stop at an exit: use --engine {able}")


def load_named(name: str, artifact: Artifact, options: EngineOptions) -> Engine:
    """Loads a network into the engine of this name; raises what `rtseg.engines.load_engine` does."""
    if options.exits:
        check_stops(name)
    if (reason := missing(name)) is not None:
        raise EngineError(reason)
    try:
        kind = ENGINES.get(name)
    except (ImportError, OSError, RuntimeError) as error:  # a library of the package is missing or has another version
        said = " ".join(str(error).split())
        raise EngineError(f"engine {name} is installed but cannot be loaded ({said}): {install_hint(name)}") from error
    if options.in_flight > 1 and not TABLE[name].on_gpu:
        return EnginePool(kind, artifact, options)
    return kind(artifact, options)
