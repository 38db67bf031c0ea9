"""Every name in TensorRT's Python bindings that rtseg uses exists in the installed ones, version 10 or 11."""

import ast
from pathlib import Path

import pytest

trt = pytest.importorskip("tensorrt", reason="tensorrt is not installed", exc_type=ImportError)
ROOT = Path(__file__).parents[1]
# Names that are reached through objects rather than the module: (class, attribute).
MEMBERS = [
    ("Builder", "create_network"),
    ("Builder", "create_builder_config"),
    ("Builder", "build_serialized_network"),
    ("OnnxParser", "parse"),
    ("OnnxParser", "num_errors"),
    ("OnnxParser", "get_error"),
    ("ParserError", "desc"),
    ("INetworkDefinition", "num_layers"),
    ("INetworkDefinition", "get_layer"),
    ("ILayer", "type"),
    ("ILayer", "name"),
    ("ILayer", "get_input"),
    ("ILayer", "num_inputs"),
    ("ILayer", "get_output"),
    ("ILayer", "num_outputs"),
    ("ITensor", "dtype"),
    ("ITensor", "name"),
    ("IBuilderConfig", "builder_optimization_level"),
    ("IBuilderConfig", "profiling_verbosity"),
    ("IBuilderConfig", "progress_monitor"),
    ("IBuilderConfig", "set_memory_pool_limit"),
    ("IBuilderConfig", "set_flag"),
    ("IBuilderConfig", "clear_flag"),
    ("IBuilderConfig", "create_timing_cache"),
    ("IBuilderConfig", "set_timing_cache"),
    ("ITimingCache", "serialize"),
    ("Runtime", "deserialize_cuda_engine"),
    ("ICudaEngine", "num_io_tensors"),
    ("ICudaEngine", "get_tensor_name"),
    ("ICudaEngine", "get_tensor_mode"),
    ("ICudaEngine", "get_tensor_shape"),
    ("ICudaEngine", "get_tensor_dtype"),
    ("ICudaEngine", "create_execution_context"),
    ("ICudaEngine", "create_engine_inspector"),
    ("EngineInspector", "get_engine_information"),
    ("IExecutionContext", "set_tensor_address"),
    ("IExecutionContext", "execute_async_v3"),
    ("IExecutionContext", "profiler"),
    ("IProgressMonitor", "phase_start"),
    ("IProgressMonitor", "step_complete"),
    ("IProgressMonitor", "phase_finish"),
    ("IProfiler", "report_layer_time"),
    ("ILogger", "log"),
]
DYNAMIC = ["LayerType.CONVOLUTION", "LayerType.DECONVOLUTION"]  # looked up with getattr


def written_names():
    """'trt.A.B' -> 'A.B' for every such expression in the package."""
    found = set(DYNAMIC)
    for path in (ROOT / "rtseg").glob("*/tensorrt*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = []
            while isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            if parts and isinstance(node, ast.Name) and node.id == "trt":
                found.add(".".join(reversed(parts)))
    return sorted(found)


@pytest.mark.parametrize("name", written_names())
def test_the_module_has(name):
    found = trt
    for part in name.split("."):
        found = getattr(found, part)


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_the_class_has(kind, name):
    assert hasattr(getattr(trt, kind), name)


def test_callbacks_can_be_overridden():
    from rtseg.engines.tensorrt.build import Monitor
    from rtseg.engines.tensorrt.plan import Messages

    shown = []
    progress = type("Progress", (), {"update": lambda self, *what: shown.append(what)})()
    monitor = Monitor(progress)
    monitor.phase_start("a", None, 2)
    assert monitor.step_complete("a", 0)
    monitor.cancelled.set()
    assert not monitor.step_complete("a", 1)
    monitor.phase_finish("a")
    assert shown == [("a", 0, 2), ("a", 1, 2), ("a", 2, 2), ("a", 2, 2)]
    messages = Messages()
    messages.log(trt.ILogger.Severity.ERROR, "bad\n thing")
    messages.log(trt.ILogger.Severity.WARNING, "so what")
    assert messages.last == "bad thing"
