"""OpenVINO on the CPU."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from rtseg.core.errors import EngineError, UsageError, WeightsError
from rtseg.core.zoo import Artifact
from rtseg.engines.base import EngineInfo, EngineOptions
from rtseg.engines.chain import Arrays, ChainEngine, PartGraph

# One core object for the whole process. Its CPU plugin, loaded on first use, gives the calling thread a stack for
# signal handlers. If two are destroyed in the order in which they were created, the second restores the stack of the
# first, which no longer exists, and the next Ctrl-C would crash.
_CORE = ov.Core()
_CORE.get_property("CPU", "FULL_DEVICE_NAME")


class OpenVinoEngine(ChainEngine):
    """Runs fp32 and int8 files; the logits of `infer` are in one buffer that the next call overwrites."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision == "fp16":
            raise UsageError("openvino on a CPU does not compute in fp16: use --precision fp32, or int8")
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": options.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # the default is bf16 if the CPU has it
            # A pinned thread waits for its core while another is free: with one busy core, the slowest run in a hundred
            # took ten times as long, and on a free machine pinning gained nothing.
            "ENABLE_CPU_PINNING": False,
            "CACHE_DIR": "",
        }
        self._image = np.empty((1, *options.size_hw, 3), np.uint8)
        self._requests: list[Any] = []
        self._handed: dict[str, ov.Tensor] = {}
        for path in self._paths:
            with _loading(path):
                compiled, request = _compile(path, self._settings, self._image, self._handed)
            self._requests.append(request)
        expected = (1, *self.card.output_shape(options.size_hw))
        if tuple(compiled.output(0).shape) != expected:
            raise WeightsError(f"{path} gives {compiled.output(0)}, not the logits {expected} that its card promises")
        computes = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if computes != "f32":
            raise EngineError(f"openvino computes in {computes} on this machine though f32 was asked for")
        self.length = len(self._requests)
        self.info = EngineInfo(
            engine="openvino",
            runtime=f"openvino {ov.__version__.split('-')[0]}",
            device=", ".join(compiled.get_property("EXECUTION_DEVICES")),
            precision=options.precision,
            size_hw=options.size_hw,
            threads=compiled.get_property("INFERENCE_NUM_THREADS"),
        )

    def _begin(self, image: np.ndarray) -> None:
        np.copyto(self._image[0], image)

    def _step(self, number: int) -> np.ndarray:
        request = self._requests[number]
        with self._told():
            request.infer()
            logits: np.ndarray = request.get_output_tensor(0).data[0]
        return logits

    def _reason(self, error: Exception) -> str:
        return _first_line(error)

    def _whole(self) -> Arrays:
        picture = self._requests[0].get_compiled_model().inputs[0].any_name
        return {picture: self._image, **{name: tensor.data for name, tensor in self._handed.items()}}

    def _open(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> PartGraph:
        with _loading(path):
            model = _CORE.read_model(path)
            takes = [port.any_name for port in model.inputs]
            model.reshape({name: ov.PartialShape([-1, *shapes[name]]) for name in takes})
            request = _CORE.compile_model(model, "CPU", self._settings).create_infer_request()

        def run(given: Arrays) -> tuple[np.ndarray, Arrays]:
            with self._told():
                made = request.infer({name: given[name] for name in takes}, share_inputs=True)
            logits, *passed = made.values()
            return logits, dict(zip([port.any_name for port in model.outputs[1:]], passed, strict=True))

        return PartGraph(takes, run)

    def _release(self) -> None:
        self._requests, self._handed, self._opened = [], {}, {}


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Turns OpenVINO's errors about a file into ours."""
    try:
        yield
    except Exception as error:  # RuntimeError, but also pybind's own types
        raise EngineError(f"openvino {ov.__version__} cannot load {path}: {_first_line(error)}") from error


def _compile(path: Path, settings: dict[str, Any], image: np.ndarray, handed: dict[str, ov.Tensor]) -> tuple[Any, Any]:
    """Compiles a graph and creates a request bound to the picture and the tensors of earlier graphs.

    Args:
        path: ONNX file.
        settings: the compiler's settings.
        image: uint8 (1, h, w, 3), the buffer for every picture.
        handed: tensors from earlier graphs; the outputs of this one are added.
    """
    model = _CORE.read_model(path)
    given = {port.any_name: handed.get(port.any_name) for port in model.inputs}
    bound = {name: ov.Tensor(image, shared_memory=True) if tensor is None else tensor for name, tensor in given.items()}
    model.reshape({name: list(tensor.shape) for name, tensor in bound.items()})
    compiled = _CORE.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    for name, tensor in bound.items():
        request.set_tensor(name, tensor)
    handed |= {port.any_name: request.get_tensor(port) for port in compiled.outputs[1:]}
    return compiled, request


def _first_line(error: Exception) -> str:
    """The line that matters: OpenVINO puts source positions before it and notes like a stack trace after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
