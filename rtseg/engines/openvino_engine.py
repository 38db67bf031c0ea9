"""OpenVINO on the CPU."""

import os
from functools import cache
from typing import Any

import numpy as np
import openvino as ov

from rtseg.core.errors import EngineError, UsageError, WeightsError
from rtseg.core.sizes import format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions


class OpenVinoEngine(Engine):
    """Runs fp32 and int8 files; the logits of `infer` lie in one buffer that the next call overwrites."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision == "fp16":
            raise UsageError("openvino on a CPU does not compute in fp16: use --precision fp32, or int8")
        path = artifact.file(options.precision)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": options.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # where the CPU can, the default is bf16
            # only an engine that has every core: two with fewer each would be pinned to the same ones
            "ENABLE_CPU_PINNING": options.threads >= (os.cpu_count() or 1),
            "CACHE_DIR": "",
        }
        try:
            core = _core()
            model = core.read_model(path)
            model.reshape({0: [1, *options.size_hw, 3]})
            compiled: Any = core.compile_model(model, "CPU", settings)
            self._request: Any = compiled.create_infer_request()
        except Exception as error:  # OpenVINO raises RuntimeError, but also pybind's own kinds
            raise EngineError(f"openvino {ov.__version__} cannot load {path}: {_first_line(error)}") from error
        expected = (1, *self.card.output_shape(options.size_hw))
        if tuple(compiled.output(0).shape) != expected:
            raise WeightsError(f"{path} gives {compiled.output(0)}, not the logits {expected} that its card promises")
        computes = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if computes != "f32":
            raise EngineError(f"openvino computes in {computes} on this machine though f32 was asked for")
        self._image = np.empty((1, *options.size_hw, 3), np.uint8)
        self._request.set_input_tensor(ov.Tensor(self._image, shared_memory=True))
        self.info = EngineInfo(
            engine="openvino",
            runtime=f"openvino {ov.__version__.split('-')[0]}",
            device=", ".join(compiled.get_property("EXECUTION_DEVICES")),
            precision=options.precision,
            size_hw=options.size_hw,
            threads=compiled.get_property("INFERENCE_NUM_THREADS"),
        )

    def _infer(self, image: np.ndarray) -> np.ndarray:
        np.copyto(self._image[0], image)
        try:
            self._request.infer()
            logits: np.ndarray = self._request.get_output_tensor().data[0]
        except Exception as error:
            size = format_size(self.info.size_hw)
            raise EngineError(f"openvino failed to run {self.card.name} at {size}: {_first_line(error)}") from error
        return logits

    def _release(self) -> None:
        self._request = None


@cache
def _core() -> ov.Core:
    """One for the whole process.

    Its CPU plugin gives the thread that makes it a stack for signal handlers. Of two that end in the order in which
    they were made, the second puts back the stack of the first, which is gone: the next Ctrl-C would be a crash.
    """
    return ov.Core()


def _first_line(error: Exception) -> str:
    """OpenVINO puts source positions before, and stack-like notes after, what matters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
