"""ONNX -> TensorRT plan, the same way for TensorRT 10 and 11: the graph is strongly typed, so it sets the precision.

TensorRT calls back from C++, where an exception would end the process. So the build runs in its own thread while the
caller waits, and Ctrl-C asks the build to stop instead of interrupting it.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

import tensorrt as trt

from rtseg.core.errors import EngineError, OutputError
from rtseg.core.files import atomic_path
from rtseg.engines.tensorrt.cache import BuildOptions
from rtseg.engines.tensorrt.plan import VERSION, Messages
from rtseg.engines.tensorrt.typed_graph import TypedGraph

log = logging.getLogger(__name__)

_WAIT_S = 0.1
_CONVOLUTION_LAYERS = ("CONVOLUTION", "DECONVOLUTION")


class Progress(Protocol):
    """Shows the progress of a build."""

    def update(self, phase: str, done: int, total: int) -> None:
        """Called from the build's thread; `phase` is TensorRT's name for the current step."""


@dataclass(frozen=True)
class Built:
    """A plan, and the type of each convolution in the network it was built from: 'fp32', 'fp16' or 'int8'."""

    plan: bytes
    types: dict[str, str]


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
    """Passes progress on and can tell TensorRT to stop. Its methods must not raise, since C++ calls them."""

    def __init__(self, progress: Progress | None) -> None:
        trt.IProgressMonitor.__init__(self)
        self.cancelled = Event()
        self._progress = progress
        self._steps: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase of `num_steps` begins."""
        self._steps[phase_name] = num_steps
        self._show(phase_name, 0)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Returns False to end the build."""
        self._show(phase_name, step + 1)
        return not self.cancelled.is_set()

    def phase_finish(self, phase_name: str) -> None:
        """A phase has ended, completed or not."""
        self._show(phase_name, self._steps.pop(phase_name, 0))

    def _show(self, phase: str, done: int) -> None:
        if self._progress is not None:
            try:
                self._progress.update(phase, done, self._steps.get(phase, done))
            except Exception:  # a broken display must not end the process
                self._progress = None


def build(
    graph: TypedGraph, options: BuildOptions, timing_cache: Path | None = None, progress: Progress | None = None
) -> Built:
    """Builds a plan for the current GPU. Takes minutes; Ctrl-C ends it within a step.

    Raises:
        EngineError: TensorRT cannot parse or build the network, or gives it other types than asked for.
        KeyboardInterrupt: Ctrl-C, once the build has stopped.
    """
    monitor, outcome, begin, finished = Monitor(progress), _Outcome(), Event(), Event()

    def work() -> None:
        begin.wait()
        try:
            outcome.built = _build(graph, options, timing_cache, monitor)
        except BaseException as error:
            outcome.error = error
        finished.set()

    Thread(target=work, name="rtseg-build", daemon=True).start()  # Ctrl-C within start() leaves it waiting: no harm
    interrupted, ended = False, False
    while not ended:
        try:  # an event, since before Python 3.13 an interrupted join() takes the thread for ended
            begin.set()
            ended = finished.wait(_WAIT_S)
        except KeyboardInterrupt:
            interrupted = True
            monitor.cancelled.set()
    if interrupted:
        raise KeyboardInterrupt
    if outcome.error is not None:
        raise outcome.error
    assert outcome.built is not None
    return outcome.built


@dataclass
class _Outcome:
    built: Built | None = None
    error: BaseException | None = None


def _build(graph: TypedGraph, options: BuildOptions, timing_cache: Path | None, monitor: Monitor) -> Built:
    messages = Messages()
    builder = trt.Builder(messages)
    # TensorRT 10 needs the flag; 11 has no other kind of network and ignores it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse(graph.model.SerializeToString()):
        said = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(
            f"TensorRT {VERSION} cannot parse the network: {' '.join((said or [messages.last])[0].split())}"
        )
    types = network_types(network)
    check_types(types, graph)
    config = configure(builder.create_builder_config(), options)
    config.progress_monitor = monitor
    cache = _attach(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT {VERSION} cannot build the network: {messages.last}")
    if timing_cache is not None and cache is not None:
        _save(timing_cache, bytes(cache.serialize()))
    return Built(bytes(plan), types)


def configure(config: Any, options: BuildOptions) -> Any:
    """Sets up a builder configuration; precision is not part of it."""
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the audit
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # TensorRT sets it by default
    return config


def network_types(network: Any) -> dict[str, str]:
    """Convolution layer -> its type in the typed network; 'int8' if its input is quantised."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made_by = {layer.get_output(index).name: layer.type for layer in layers for index in range(layer.num_outputs)}
    kinds = [getattr(trt.LayerType, name) for name in _CONVOLUTION_LAYERS]
    names = {trt.float32: "fp32", trt.float16: "fp16"}
    found = {}
    for layer in layers:
        if layer.type in kinds:
            given = layer.get_input(0)
            rounded = made_by.get(given.name) == trt.LayerType.DEQUANTIZE
            weights = layer.get_input(1) if layer.num_inputs > 1 else None
            rounded = rounded and weights is not None and made_by.get(weights.name) == trt.LayerType.DEQUANTIZE
            found[layer.name] = "int8" if rounded else names.get(given.dtype, str(given.dtype))
    return found


def check_types(types: Mapping[str, str], graph: TypedGraph) -> None:
    """Checks that every convolution of the parsed network has the type that was asked for.

    Raises:
        EngineError: one has another type, or the parser made more or fewer convolutions than the graph has.
    """
    asked = {name: convolution.precision for name, convolution in graph.convolutions.items()}
    if len(types) != len(asked):
        raise EngineError(f"TensorRT parsed {len(types)} convolutions of {len(asked)}")
    if types.keys() == asked.keys():
        wrong = [f"{name}: {types[name]} instead of {asked[name]}" for name in asked if types[name] != asked[name]]
    else:  # a parser with its own layer names: only the count of each type can be compared
        made, wanted = Counter(types.values()), Counter(asked.values())
        wrong = [
            f"{made[kind]} in {kind} instead of {wanted[kind]}" for kind in made | wanted if made[kind] != wanted[kind]
        ]
    if wrong:
        raise EngineError(f"TensorRT types convolutions otherwise than asked: {'; '.join(wrong[:8])}")


def _attach(config: Any, path: Path | None) -> Any:
    """Gives the build the timings of earlier builds; those of another TensorRT or GPU are ignored."""
    if path is None:
        return None
    kept = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _save(path: Path, data: bytes) -> None:
    try:
        with atomic_path(path) as part:
            part.write_bytes(data)
    except OutputError as error:  # the timings only save time
        log.warning("the next build will take as long as this one: %s", error)
