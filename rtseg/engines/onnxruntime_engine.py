"""onnxruntime on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from rtseg.core.errors import EngineError, UsageError, WeightsError
from rtseg.core.sizes import Size, format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions


def open_session(path: Path, size_hw: Size, threads: int) -> ort.InferenceSession:
    """Loads a deployment graph for one picture of a size; all that depends on the size folds to constants.

    Raises:
        EngineError: onnxruntime cannot load the file.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    for axis, length in zip(("N", "height", "width"), (1, *size_hw), strict=True):
        options.add_free_dimension_override_by_name(axis, length)
    # A waiting thread spins only as long as the gap between two operators, and not after a run: other stages of the
    # loop need the cores. On busy cores the default spinning costs half as much processor time again as the network.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no other base
        raise EngineError(f"onnxruntime {ort.__version__} cannot load {path}: {error}") from error


class OnnxRuntimeEngine(Engine):
    """Runs fp32 and int8 files; the logits of `infer` lie in one buffer that the next call overwrites."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision == "fp16":
            raise UsageError("onnxruntime on a CPU does not compute in fp16: use --precision fp32, or int8")
        path = artifact.file(options.precision)
        size_hw = options.size_hw
        session = open_session(path, size_hw, options.threads)
        output = session.get_outputs()[0]
        if output.type != "tensor(float)" or len(output.shape) != 4:
            raise WeightsError(f"{path} gives {output.type} {output.shape}, not logits: export it with --output logits")
        # Own buffers, bound once: onnxruntime neither allocates nor copies a result in a run.
        self._image = np.empty((1, *size_hw, 3), np.uint8)
        self._logits = np.empty((1, *self.card.output_shape(size_hw)), np.float32)
        self._binding: Any = session.io_binding()
        name = session.get_inputs()[0].name
        self._binding.bind_input(name, "cpu", 0, np.uint8, self._image.shape, self._image.ctypes.data)
        self._binding.bind_output(output.name, "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data)
        self._session: Any = session
        self.info = EngineInfo(
            engine="onnxruntime",
            runtime=f"onnxruntime {ort.__version__}",
            device=session.get_providers()[0].removesuffix("ExecutionProvider"),
            precision=options.precision,
            size_hw=size_hw,
            threads=options.threads,
        )

    def _infer(self, image: np.ndarray) -> np.ndarray:
        np.copyto(self._image[0], image)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            size = format_size(self.info.size_hw)
            raise EngineError(f"onnxruntime failed to run {self.card.name} at {size}: {error}") from error
        logits: np.ndarray = self._logits[0]
        return logits

    def _release(self) -> None:
        self._binding = self._session = None
