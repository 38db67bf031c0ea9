"""onnxruntime on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime as ort

from rtseg.core.errors import EngineError, UsageError, WeightsError
from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import EngineInfo, EngineOptions
from rtseg.engines.chain import Arrays, ChainEngine, PartGraph


def open_session(
    path: Path, size_hw: Size, threads: int, handed: Mapping[str, Size] = MappingProxyType({}), *, batch: bool = False
) -> ort.InferenceSession:
    """Loads a deployment graph for one picture size, so that everything that depends on the size becomes constant.

    Args:
        path: ONNX file.
        size_hw: height and width of the picture.
        threads: CPU threads.
        handed: tensor from an earlier graph -> its (height, width).
        batch: accept any number of pictures instead of one.

    Raises:
        EngineError: onnxruntime cannot load the file.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    if not batch:
        options.add_free_dimension_override_by_name("N", 1)
    for prefix, lengths in {"": size_hw, **{f"{name}_": each for name, each in handed.items()}}.items():
        for axis, length in zip(("height", "width"), lengths, strict=True):
            options.add_free_dimension_override_by_name(f"{prefix}{axis}", length)
    # A waiting thread spins only as long as the gap between two operators, and not after a run: other stages of the
    # loop need the cores. On busy cores the default spinning costs half as much processor time as the network itself.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise EngineError(f"onnxruntime {ort.__version__} cannot load {path}: {error}") from error


class _Step:
    """A graph with its buffers, bound once, so that onnxruntime allocates and copies no results during a run.

    Args:
        path: the graph's file.
        image: uint8 (1, h, w, 3), the buffer for every picture.
        threads: CPU threads.
        handed: tensors from earlier graphs; the outputs of this one are added.
        shape: shape of its logits; by default inferred by onnxruntime, which works for files from `rtseg export`.
    """

    def __init__(
        self, path: Path, image: np.ndarray, threads: int, handed: dict[str, Any], shape: tuple[int, ...] | None = None
    ) -> None:
        sizes = {name: (value.shape()[2], value.shape()[3]) for name, value in handed.items()}
        self.session: Any = open_session(path, (image.shape[1], image.shape[2]), threads, sizes)
        self.binding: Any = self.session.io_binding()
        for given in self.session.get_inputs():
            if given.name in handed:
                self.binding.bind_ortvalue_input(given.name, handed[given.name])
            else:
                self.binding.bind_input(given.name, "cpu", 0, np.uint8, image.shape, image.ctypes.data)
        output, *hands_on = self.session.get_outputs()
        if output.type != "tensor(float)" or len(output.shape) != 4:
            raise WeightsError(f"{path} gives {output.type} {output.shape}, not logits: export it with --output logits")
        self.logits = np.empty(shape or output.shape, np.float32)
        self.binding.bind_output(output.name, "cpu", 0, np.float32, self.logits.shape, self.logits.ctypes.data)
        for passed in hands_on:
            handed[passed.name] = ort.OrtValue.ortvalue_from_shape_and_type(passed.shape, np.float32, "cpu")
            self.binding.bind_ortvalue_output(passed.name, handed[passed.name])


class OnnxRuntimeEngine(ChainEngine):
    """Runs fp32 and int8 files; the logits of `infer` are in one buffer that the next call overwrites."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision == "fp16":
            raise UsageError("onnxruntime on a CPU does not compute in fp16: use --precision fp32, or int8")
        size_hw = options.size_hw
        self._image = np.empty((1, *size_hw, 3), np.uint8)
        self._steps: list[_Step] = []
        self._handed: dict[str, ort.OrtValue] = {}
        shape = None if options.exits else (1, *self.card.output_shape(size_hw))
        for path in self._paths:
            self._steps.append(_Step(path, self._image, options.threads, self._handed, shape))
        self.length = len(self._steps)
        self.info = EngineInfo(
            engine="onnxruntime",
            runtime=f"onnxruntime {ort.__version__}",
            device=self._steps[0].session.get_providers()[0].removesuffix("ExecutionProvider"),
            precision=options.precision,
            size_hw=size_hw,
            threads=options.threads,
        )

    def _begin(self, image: np.ndarray) -> None:
        np.copyto(self._image[0], image)

    def _step(self, number: int) -> np.ndarray:
        step = self._steps[number]
        with self._told():
            step.session.run_with_iobinding(step.binding)
        logits: np.ndarray = step.logits[0]
        return logits

    def _whole(self) -> Arrays:
        picture = self._steps[0].session.get_inputs()[0].name
        return {picture: self._image, **{name: value.numpy() for name, value in self._handed.items()}}

    def _open(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> PartGraph:
        sizes = {name: (shape[1], shape[2]) for name, shape in shapes.items() if name in self._handed}
        (size_hw,) = ((shape[0], shape[1]) for name, shape in shapes.items() if name not in self._handed)
        session: Any = open_session(path, size_hw, self.info.threads, sizes, batch=True)
        takes, gives = ([one.name for one in several] for several in (session.get_inputs(), session.get_outputs()))

        def run(given: Arrays) -> tuple[np.ndarray, Arrays]:
            with self._told():
                logits, *passed = session.run(None, {name: given[name] for name in takes})
            return logits, dict(zip(gives[1:], passed, strict=True))

        return PartGraph(takes, run)

    def _release(self) -> None:
        self._steps, self._handed, self._opened = [], {}, {}
