"""A fake GPU and TensorRT in ordinary memory: they compute on the CPU what the real ones would, in the same order.

The driver's calls move real bytes; work on a stream runs at once or, if the stream is being recorded, when the graph is
launched. A "plan" is the ONNX file that it was built from, run by onnxruntime. So everything but the device itself is
tested: buffers, graphs, slots, the builder's protocol, audit, gate and cache.
"""

import ctypes
import json
import sys
from enum import IntEnum
from functools import cache
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest

from rtseg.engines.cuda import device as gpu
from rtseg.scenes import StreetScene


class FakeDriver:
    """`cuda.bindings.driver`: every call returns (code, …)."""

    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=76
    )

    def __init__(self):
        self.memory = {}  # address -> array
        self.recording = {}  # stream -> list of calls
        self.handles = 0
        self.free_bytes = 1 << 40
        self.no_graphs = False
        self.fail_next_wait = False
        self.launched = 0

    def _new(self, table=None, value=None):
        self.handles += 1
        if table is not None:
            table[self.handles] = value
        return (0, self.handles)

    def _put(self, stream, call):
        recorded = self.recording.get(stream)
        if recorded is not None:
            recorded.append(call)
        else:
            call()
        return (0,)

    def _allocate(self, size):
        if size > self.free_bytes:
            return (2, None)
        self.free_bytes -= size
        array = np.full(size, 0xA5, np.uint8)  # not zeros, so that unwritten bytes show
        self.memory[array.ctypes.data] = array
        return (0, array.ctypes.data)

    def _free(self, address):
        self.free_bytes += self.memory.pop(address).size
        return (0,)

    def cuInit(self, flags):
        return (0,)

    def cuDeviceGet(self, ordinal):
        return (0, 0)

    def cuDevicePrimaryCtxRetain(self, device):
        return (0, 1)

    def cuCtxSetCurrent(self, context):
        return (0,)

    def cuDeviceGetAttribute(self, attribute, device):
        return (0, {75: 9, 76: 0}[attribute])

    def cuDeviceGetName(self, length, device):
        return (0, b"Fake H100".ljust(length, b"\0"))

    def cuDriverGetVersion(self):
        return (0, 13020)

    def cuGetErrorString(self, code):
        return (0, f"error number {code}".encode())

    def cuMemAlloc(self, size):
        return self._allocate(size)

    def cuMemHostAlloc(self, size, flags):
        return self._allocate(size)

    def cuMemFree(self, address):
        return self._free(address)

    def cuMemFreeHost(self, address):
        return self._free(address)

    def cuMemcpyHtoDAsync(self, target, source, size, stream):
        return self._put(stream, lambda: ctypes.memmove(target, source, size))

    def cuMemcpyDtoHAsync(self, target, source, size, stream):
        return self._put(stream, lambda: ctypes.memmove(target, source, size))

    def cuStreamCreate(self, flags):
        return self._new()

    def cuStreamDestroy(self, stream):
        return (0,)

    def cuStreamSynchronize(self, stream):
        if self.fail_next_wait:
            self.fail_next_wait = False
            return (700,)
        return (0,)

    def cuStreamBeginCapture(self, stream, mode):
        if self.no_graphs:
            return (900,)
        self.recording[stream] = []
        return (0,)

    def cuStreamEndCapture(self, stream):
        return (0, self.recording.pop(stream))

    def cuGraphInstantiate(self, graph, flags):
        return (0, graph)

    def cuGraphLaunch(self, graph, stream):
        self.launched += 1
        for call in graph:
            call()
        return (0,)

    def cuGraphExecDestroy(self, graph):
        return (0,)

    def cuGraphDestroy(self, graph):
        return (0,)

    def cuEventCreate(self, flags):
        return self._new()

    def cuEventRecord(self, event, stream):
        return (0,)

    def cuEventSynchronize(self, event):
        return (0,)

    def cuEventElapsedTime(self, start, stop):
        return (0, 0.5)

    def cuEventDestroy(self, event):
        return (0,)

    def cuModuleLoadData(self, image):
        return self._new()

    def cuModuleGetFunction(self, module, name):
        return (0, name)

    def cuModuleUnload(self, module):
        return (0,)

    def cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        values, types = parameters
        assert len(values) == len(types)
        return self._put(stream, lambda: self._upsample(*values))

    def _upsample(self, logits, classes, h, w, cells_y, places_y, cells_x, places_x, labels, height, width):
        """Computes like the kernel, with the tables that it is given."""
        kind = np.float16 if self.memory[logits].size == 2 * classes * h * w else np.float32
        grid = self._view(logits, kind, (classes, h, w)).astype(np.float32)
        cy, py = self._view(cells_y, np.int32, height), self._view(places_y, np.float32, height)
        cx, px = self._view(cells_x, np.int32, width), self._view(places_x, np.float32, width)
        rows = grid[:, cy] + py[:, None] * (grid[:, np.minimum(cy + 1, h - 1)] - grid[:, cy])
        full = rows[:, :, cx] + px * (rows[:, :, np.minimum(cx + 1, w - 1)] - rows[:, :, cx])
        self._view(labels, np.uint8, (height, width))[:] = full.argmax(0)

    def _view(self, address, kind, shape):
        return self.memory[address].view(kind).reshape(shape)


def fake_tensorrt(driver, version="10.15.1.29", layer_types=None, cancel_at=None, refuse=None):
    """A module that stands in for TensorRT.

    Args:
        driver: holds its "device memory".
        version: its version; 11 reports layers in another format.
        layer_types: convolution -> the type that the built engine reports, if it is not the requested one.
        cancel_at: called with the progress monitor at the build's third step, to press Ctrl-C.
        refuse: the call that fails: 'parse', 'build', 'plan' or 'context'.
    """
    trt = ModuleType("tensorrt")
    trt.__version__ = version
    eleven = version.startswith("11")

    class ILogger:
        Severity = IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)

    class IProgressMonitor:
        pass

    class IProfiler:
        pass

    def enum(name, members):
        found = IntEnum(name, members)
        setattr(trt, name, found)
        return found

    kinds = enum("DataType", "FLOAT HALF INT8 UINT8 INT64 BOOL")
    trt.float32, trt.float16 = kinds.FLOAT, kinds.HALF
    layer_kind = enum("LayerType", "CONVOLUTION DECONVOLUTION DEQUANTIZE QUANTIZE OTHER")
    enum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH STRONGLY_TYPED")
    enum("BuilderFlag", "TF32 REFIT" if eleven else "FP16 INT8 TF32 REFIT")
    enum("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED NONE")
    enum("MemoryPoolType", "WORKSPACE")
    mode = enum("TensorIOMode", "NONE INPUT OUTPUT")
    enum("LayerInformationFormat", "ONELINE JSON")
    names = {onnx.TensorProto.FLOAT: kinds.FLOAT, onnx.TensorProto.FLOAT16: kinds.HALF,
             onnx.TensorProto.INT8: kinds.INT8, onnx.TensorProto.UINT8: kinds.UINT8}  # fmt: skip

    class Layer:
        def __init__(self, node, types):
            self.node, self.types, self.name = node, types, node.name
            kind = {"Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "DequantizeLinear": "DEQUANTIZE",
                    "QuantizeLinear": "QUANTIZE"}.get(node.op_type, "OTHER")  # fmt: skip
            self.type = layer_kind[kind]
            self.num_inputs, self.num_outputs = len(node.input), len(node.output)

        def _tensor(self, name):
            return SimpleNamespace(name=name, dtype=names.get(self.types.get(name), kinds.INT64))

        def get_input(self, index):
            return self._tensor(self.node.input[index])

        def get_output(self, index):
            return self._tensor(self.node.output[index])

    class Network:
        model = None

        @property
        def num_layers(self):
            return len(self.layers)

        def get_layer(self, index):
            return self.layers[index]

    class OnnxParser:
        num_errors = 1

        def __init__(self, network, logger):
            self.network = network

        def parse(self, data):
            if refuse == "parse":
                return False
            from rtseg.engines.tensorrt.fixed_graph import tensor_types

            self.network.model = model = onnx.load_from_string(data)
            types = tensor_types(model)
            self.network.layers = [Layer(node, types) for node in model.graph.node]
            return True

        def get_error(self, index):
            return SimpleNamespace(desc=lambda: "no importer for\n operator Wobble")

    class Config:
        def __init__(self):
            self.flags, self.pools, self.cache = {trt.BuilderFlag.TF32}, {}, None

        def set_flag(self, flag):
            self.flags.add(flag)

        def clear_flag(self, flag):
            self.flags.discard(flag)

        def set_memory_pool_limit(self, pool, size):
            self.pools[pool] = size

        def create_timing_cache(self, data):
            return SimpleNamespace(data=data, serialize=lambda: data + b"timed;")

        def set_timing_cache(self, cache, ignore_mismatch):
            if cache.data and not cache.data.startswith(b"timed;"):
                return False
            self.cache = cache
            return True

    class Builder:
        def __init__(self, logger):
            self.logger = logger

        def create_network(self, flags=0):
            assert flags & (1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)), "TensorRT 10 needs the flag"
            return Network()

        def create_builder_config(self):
            trt.config = Config()
            return trt.config

        def build_serialized_network(self, network, config):
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 4)
            monitor.phase_start("Timing", "Building", 4)
            try:
                for step in range(4):
                    if step == 2 and cancel_at is not None:
                        cancel_at(monitor)
                    if not monitor.step_complete("Building", step):
                        return None
            finally:
                monitor.phase_finish("Timing")
                monitor.phase_finish("Building")
            if refuse == "build":
                self.logger.log(ILogger.Severity.ERROR, "could not find any\n implementation for node 7")
                return None
            return network.model.SerializeToString()

    class Context:
        def __init__(self, engine):
            self.engine, self.addresses, self.profiler = engine, {}, None

        def set_tensor_address(self, name, address):
            self.addresses[name] = address
            return address in driver.memory

        def execute_async_v3(self, stream):
            if self.profiler is not None:
                for layer in json.loads(self.engine.report())["Layers"]:
                    self.profiler.report_layer_time(layer["Name"], 0.25)
            return driver._put(stream, self._run) == (0,)

        def _run(self):
            given, made = (driver.memory[self.addresses[name]] for name in self.engine.names)
            image = given.reshape(self.engine.get_tensor_shape(self.engine.names[0])[1:])
            kind = np.float16 if self.engine.half else np.float32
            made.view(kind)[:] = self.engine.run(image).astype(kind).ravel()

    class Engine:
        num_io_tensors = 2

        def __init__(self, data):
            from rtseg.engines.tensorrt.sensitivity import emulate

            self.model = onnx.load_from_string(data)
            graph = self.model.graph
            self.names = [graph.output[0].name, graph.input[0].name][::-1]
            self.half = graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
            self.run = emulate(self.model)

        def get_tensor_name(self, index):
            return self.names[index]

        def get_tensor_mode(self, name):
            return mode.INPUT if name == self.names[0] else mode.OUTPUT

        def get_tensor_shape(self, name):
            value = self.model.graph.input[0] if name == self.names[0] else self.model.graph.output[0]
            return [axis.dim_value for axis in value.type.tensor_type.shape.dim]

        def get_tensor_dtype(self, name):
            return kinds.HALF if self.half else kinds.FLOAT

        def create_execution_context(self):
            return None if refuse == "context" else Context(self)

        def create_engine_inspector(self):
            return SimpleNamespace(get_engine_information=lambda form: self.report())

        def report(self):
            return json.dumps({"Layers": [entry for entry in map(self._entry, self.model.graph.node) if entry]})

        def _entry(self, node):
            if node.op_type not in ("Conv", "ConvTranspose"):
                return None
            rounded = all(name.endswith(".dq") for name in node.input[:2])
            asked = "Int8" if rounded else "Half" if self.half else "Float"
            kind = (layer_types or {}).get(node.name, asked)
            tensor = (
                {"Name": "x", "DataType": kind, "Format": "Row major linear"}
                if eleven
                else {"Name": "x", "Format/Datatype": f"Row major linear {kind} format"}
            )
            return {"Name": f"{node.name} + relu", "LayerType": "CaskConvolution", "Inputs": [tensor],
                    "Outputs": [tensor], "Weights": {"Type": kind, "Count": 1}, "TacticName": "sm90_xmma",
                    "Metadata": f"[ONNX Layer: {node.name}]\x1e[ONNX Layer: relu]"}  # fmt: skip

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, data):
            if refuse == "plan" or data[:4] == b"junk":
                self.logger.log(ILogger.Severity.ERROR, "serialization assertion stdVersionRead failed")
                return None
            return Engine(data)

    for kind in (ILogger, IProgressMonitor, IProfiler, OnnxParser, Builder, Runtime):
        setattr(trt, kind.__name__, kind)
    return trt


USERS = ("rtseg.engines.tensorrt.plan", "rtseg.engines.tensorrt.runner", "rtseg.engines.tensorrt.engine",
         "rtseg.engines.tensorrt.build", "rtseg.engines.tensorrt.compile")  # fmt: skip


@cache
def street(seed, fps=30.0):
    """A small scene, cached: setting one up is slow, and the gate asks for the same ones repeatedly."""
    return StreetScene((64, 96), seed=seed, fps=fps)


def any_street(size_hw, **settings):
    """A replacement for `StreetScene` for code that resizes its pictures."""
    return street(**settings)


@pytest.fixture
def gpu_machine(monkeypatch, tmp_path):
    """Gives this machine the fake GPU; call it to install a TensorRT, with the arguments of `fake_tensorrt`."""
    pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    from rtseg.engines.cuda import memory as cuda_memory
    from rtseg.engines.cuda import upsampling as upsample_cuda

    driver = FakeDriver()
    monkeypatch.setattr(cuda_memory, "driver", driver)
    monkeypatch.setattr(gpu, "gpu_problem", lambda: None)
    monkeypatch.setattr(cuda_memory, "gpu_problem", lambda: None)
    monkeypatch.setattr(cuda_memory, "driver_version", lambda: "580.1")
    monkeypatch.setattr("rtseg.engines.table.gpu_problem", lambda: None)
    monkeypatch.setattr(upsample_cuda, "compile_kernel", lambda capability, half: b"kernel")
    monkeypatch.setattr("rtseg.engines.tensorrt.gate.StreetScene", any_street)
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rtseg.engines.table.find_spec", lambda name: True)

    def install(**arguments):
        module = fake_tensorrt(driver, **arguments)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        for name in USERS:  # they keep a reference to the TensorRT that they imported
            monkeypatch.delitem(sys.modules, name, raising=False)
            parent, _, child = name.rpartition(".")
            monkeypatch.delattr(sys.modules[parent], child, raising=False) if parent in sys.modules else None
        return SimpleNamespace(driver=driver, trt=module, cache=tmp_path / "cache" / "engines")

    return install
