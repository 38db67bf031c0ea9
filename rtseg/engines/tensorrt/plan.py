"""A built TensorRT engine: loading it, its tensors, and running it on a stream. For TensorRT 10 and 11.

TensorRT must not be used without a working driver: freeing its runtime object would then end the process. So create a
`Device` first.
"""

import logging
from collections.abc import Mapping
from typing import Any

import tensorrt as trt

from rtseg.core.errors import EngineError

_log = logging.getLogger(__name__)
VERSION: str = trt.__version__
OLDEST = (10, 3)


class PlanError(EngineError):
    """TensorRT refuses a plan: it is damaged, or from another version or for another GPU."""


class Messages(trt.ILogger):  # type: ignore[misc]
    """TensorRT's log: forwards messages to ours and keeps the errors for our messages."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        """Called by TensorRT, from any thread; must not raise."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(" ".join(msg.split()))
            _log.info("%s", msg)
        else:
            _log.debug("%s", msg)

    @property
    def last(self) -> str:
        """TensorRT's latest error, on one line."""
        return self.errors[-1] if self.errors else "TensorRT gives no reason"


def check_version() -> None:
    """Raises EngineError if the installed TensorRT is too old."""
    if tuple(int(part) for part in VERSION.split(".")[:2]) < OLDEST:
        raise EngineError(f"TensorRT {VERSION} is too old: rtseg needs {OLDEST[0]}.{OLDEST[1]} or newer")


class Plan:
    """A loaded engine with one input and one output, both with fixed shapes.

    Raises:
        PlanError: TensorRT refuses the plan.
    """

    def __init__(self, data: bytes) -> None:
        self._messages = Messages()
        self._runtime = trt.Runtime(self._messages)
        self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise PlanError(f"TensorRT {VERSION} refuses the engine: {self._messages.last}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise PlanError(f"the engine has {len(inputs)} inputs and {len(outputs)} outputs, not one of each")
        self.input, self.output = inputs[0], outputs[0]
        self.input_shape = tuple(self._engine.get_tensor_shape(self.input))
        self.output_shape = tuple(self._engine.get_tensor_shape(self.output))
        kind = self._engine.get_tensor_dtype(self.output)
        if kind not in (trt.float16, trt.float32):
            raise PlanError(f"the engine's output is {kind}, not logits")
        self.half = kind == trt.float16
        """Whether the logits are FP16 rather than FP32."""

    def context(self, image: int, logits: int) -> "Execution":
        """Prepares the plan to run on device memory at these addresses; raises EngineError if memory runs out."""
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"TensorRT cannot make room for the network on the GPU: {self._messages.last}")
        return Execution(context, self._messages, {self.input: image, self.output: logits})

    def layers(self) -> str:
        """TensorRT's report on the layers, as JSON; detailed if the engine was built that way."""
        text: str = self._engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        return text

    def close(self) -> None:
        self._engine = self._runtime = None


class _LayerTimes(trt.IProfiler):  # type: ignore[misc]
    """Adds up the times that TensorRT reports for each layer."""

    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.total_ms: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Called by TensorRT after a run."""
        self.total_ms[layer_name] = self.total_ms.get(layer_name, 0.0) + ms


class Execution:
    """One run of a plan at a time, on fixed addresses."""

    def __init__(self, context: Any, messages: Messages, addresses: Mapping[str, int]) -> None:
        self._context, self._messages = context, messages
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT does not take the memory for {name}: {messages.last}")

    def enqueue(self, stream: Any) -> None:
        """Puts one run on a CUDA stream."""
        if not self._context.execute_async_v3(int(stream)):
            raise EngineError(f"TensorRT failed to start the network: {self._messages.last}")

    def time_layers(self, stream: Any, runs: int = 20) -> dict[str, float]:
        """Layer -> its mean time in ms. Timing each layer slows the run down, so their sum is more than a run."""
        profiler = _LayerTimes()
        self._context.profiler = profiler  # from now on a run returns only when it is finished
        for _ in range(runs):
            self.enqueue(stream)
        return {name: total / runs for name, total in profiler.total_ms.items()}

    def close(self) -> None:
        self._context = None
