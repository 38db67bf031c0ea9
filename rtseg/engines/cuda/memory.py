"""CUDA without torch: the device, its memory, streams, graphs and kernels, through NVIDIA's own bindings.

Everything here belongs to the device's primary context, which TensorRT and torch use too. Each thread has its own
current context, so a thread calls `Device.use` before anything else.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from cuda.bindings import driver

from rtseg.core.errors import EngineError
from rtseg.engines.cuda.device import driver_version, gpu_problem

_OUT_OF_MEMORY = 2


def check(result: tuple[Any, ...], what: str) -> Any:
    """The value of a driver call; raises EngineError with what was tried and the driver's error."""
    code, *values = result
    if int(code) != 0:
        if int(code) == _OUT_OF_MEMORY:
            raise EngineError(f"out of GPU memory while {what}: close other programs on it, or take a smaller --size")
        _, text = driver.cuGetErrorString(code)
        raise EngineError(f"CUDA failed while {what}: {text.decode() if text else code} ({int(code)})")
    return values[0] if len(values) == 1 else tuple(values)


@dataclass(frozen=True)
class DeviceInfo:
    """Identifies a GPU and its driver.

    Attributes:
        name: 'NVIDIA H100 80GB HBM3'.
        compute_capability: (9, 0).
        driver: its own version; '' if it does not tell.
        cuda: the CUDA version that the driver supports.
    """

    name: str
    compute_capability: tuple[int, int]
    driver: str
    cuda: str


class Device:
    """The first visible GPU.

    Raises:
        EngineError: no GPU can be used; gives the reason.
    """

    def __init__(self) -> None:
        problem = gpu_problem()
        if problem is not None:
            raise EngineError(f"no GPU can be used: {problem}")
        check(driver.cuInit(0), "starting the driver")
        handle = check(driver.cuDeviceGet(0), "opening the GPU")
        self._context = check(driver.cuDevicePrimaryCtxRetain(handle), "opening the GPU")
        kind = driver.CUdevice_attribute
        major, minor = (
            check(driver.cuDeviceGetAttribute(attribute, handle), "asking for the GPU's properties")
            for attribute in (
                kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        name = check(driver.cuDeviceGetName(128, handle), "asking for the GPU's name")
        version = check(driver.cuDriverGetVersion(), "asking for the driver's version")
        self.info = DeviceInfo(
            name=name.split(b"\0")[0].decode(),
            compute_capability=(major, minor),
            driver=driver_version(),
            cuda=f"{version // 1000}.{version % 1000 // 10}",
        )
        self.use()

    def use(self) -> None:
        """Makes this GPU current in the calling thread."""
        check(driver.cuCtxSetCurrent(self._context), "switching to the GPU")


class Buffer:
    """GPU memory; `close` frees it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.address = int(check(driver.cuMemAlloc(size), f"taking {size / 2**20:.1f} MiB"))

    def close(self) -> None:
        if self.address:
            driver.cuMemFree(self.address)
            self.address = 0


class Pinned:
    """An array in page-locked host memory, from which the GPU copies directly; invalid after `close`."""

    def __init__(self, shape: Sequence[int], dtype: Any) -> None:
        self.size = prod(shape) * np.dtype(dtype).itemsize
        self.address = int(check(driver.cuMemHostAlloc(self.size, 0), "taking page-locked memory"))
        memory = (ctypes.c_uint8 * self.size).from_address(self.address)
        self.array: np.ndarray = np.frombuffer(memory, np.dtype(dtype)).reshape(tuple(shape))

    def close(self) -> None:
        if self.address:
            driver.cuMemFreeHost(self.address)
            self.address = 0


class Stream:
    """Work that the GPU does in order; streams are independent of each other."""

    def __init__(self) -> None:
        flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.handle = check(driver.cuStreamCreate(flags), "making a stream")

    def upload(self, target: Buffer, source: Pinned) -> None:
        call = driver.cuMemcpyHtoDAsync(target.address, source.address, source.size, self.handle)
        check(call, "copying to the GPU")

    def download(self, target: Pinned, source: Buffer) -> None:
        call = driver.cuMemcpyDtoHAsync(target.address, source.address, target.size, self.handle)
        check(call, "copying from the GPU")

    def capture(self, work: Callable[[], None]) -> "Graph":
        """Records what `work` puts on this stream, to launch it as one; nothing of it runs now."""
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(driver.cuStreamBeginCapture(self.handle, mode), "recording a CUDA graph")
        try:
            work()
        finally:
            result = driver.cuStreamEndCapture(self.handle)  # also after an error: the stream must leave that state
        return Graph(check(result, "recording a CUDA graph"), self)

    def wait(self) -> None:
        """Waits until everything on the stream is done; raises EngineError if something failed."""
        check(driver.cuStreamSynchronize(self.handle), "running the network")

    def close(self) -> None:
        if self.handle is not None:
            driver.cuStreamDestroy(self.handle)
            self.handle = None


class Graph:
    """Recorded work, launched with one call."""

    def __init__(self, graph: Any, stream: Stream) -> None:
        self._graph, self._stream = graph, stream
        self._executable = check(driver.cuGraphInstantiate(graph, 0), "preparing a CUDA graph")

    def launch(self) -> None:
        check(driver.cuGraphLaunch(self._executable, self._stream.handle), "launching a CUDA graph")

    def close(self) -> None:
        if self._executable is not None:
            driver.cuGraphExecDestroy(self._executable)
            driver.cuGraphDestroy(self._graph)
            self._executable = None


class Kernel:
    """A function of a compiled module.

    Args:
        image: CUBIN or PTX.
        name: the function's name in it.
    """

    def __init__(self, image: bytes, name: str) -> None:
        self._module = check(driver.cuModuleLoadData(image), f"loading the kernel {name}")
        self._function = check(driver.cuModuleGetFunction(self._module, name.encode()), f"finding the kernel {name}")

    def launch(
        self, stream: Stream, grid: tuple[int, int], block: tuple[int, int], values: Sequence[int], types: Sequence[Any]
    ) -> None:
        """Puts the kernel on a stream; `values` are its arguments, `types` their ctypes."""
        parameters = (tuple(values), tuple(types))
        call = driver.cuLaunchKernel(self._function, *grid, 1, *block, 1, 0, stream.handle, parameters, 0)
        check(call, "launching a kernel")

    def close(self) -> None:
        if self._module is not None:
            driver.cuModuleUnload(self._module)
            self._module = None


class Stopwatch:
    """Times work on a stream with the GPU's own clock."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._events = [check(driver.cuEventCreate(0), "making an event") for _ in range(2)]

    def start(self) -> None:
        check(driver.cuEventRecord(self._events[0], self._stream.handle), "starting the clock")

    def stop(self) -> float:
        """Waits for the stream; returns the seconds since `start`."""
        check(driver.cuEventRecord(self._events[1], self._stream.handle), "stopping the clock")
        check(driver.cuEventSynchronize(self._events[1]), "running the network")
        return float(check(driver.cuEventElapsedTime(*self._events), "reading the clock")) / 1e3

    def close(self) -> None:
        for event in self._events:
            driver.cuEventDestroy(event)
        self._events = []
