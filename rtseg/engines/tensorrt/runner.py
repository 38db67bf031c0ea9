"""Runs a built engine from a picture in host memory to labels in host memory, with two pictures in flight.

Each of two slots has a stream, an execution context, page-locked buffers and one CUDA graph for the whole step: upload,
network, labels at full size, download. While one slot computes, the other copies.
"""

import ctypes
import logging
from typing import Any

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.errors import EngineError
from rtseg.core.sizes import Size
from rtseg.engines.cuda.memory import Buffer, Device, Graph, Kernel, Pinned, Stopwatch, Stream
from rtseg.engines.cuda.upsampling import BLOCK, NAME, compile_kernel, grid, places
from rtseg.engines.tensorrt.plan import Execution, Plan

_log = logging.getLogger(__name__)
IN_FLIGHT = 2
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_TYPES = (_POINTER, _INT, _INT, _INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _INT)


class Runner:
    """A plan on a GPU. Not thread-safe, but any thread may use it.

    Raises:
        PlanError: TensorRT refuses the plan.
        EngineError: the GPU runs out of memory, or the kernel cannot be compiled.
    """

    def __init__(self, device: Device, plan: bytes) -> None:
        self._device = device
        self._plan = Plan(plan)
        self._closing: list[Any] = [self._plan]
        self._slots: list[_Slot] = []
        try:
            kernel = Kernel(compile_kernel(device.info.compute_capability, self._plan.half), NAME)
            self._closing.append(kernel)
            for _ in range(IN_FLIGHT):
                self._slots.append(_Slot(self._plan, kernel))
        except BaseException:
            self.close()
            raise
        self.logits_shape: tuple[int, ...] = self._plan.output_shape[1:]
        self._next = 0

    @property
    def graph(self) -> bool:
        """Whether the step runs as one CUDA graph; known after the first labels."""
        return all(slot.graph is not None for slot in self._slots)

    def infer(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) -> logits float32 (C, h/s, w/s), a new array."""
        self._device.use()
        return self._slots[0].infer(image)

    def start(self, image: np.ndarray, size_hw: Size) -> "_Slot":
        """Copies the picture and starts its step; returns the argument for `finish`."""
        self._device.use()
        slot = self._slots[self._next]
        slot.start(image, size_hw)
        self._next = (self._next + 1) % IN_FLIGHT
        return slot

    def finish(self, slot: "_Slot") -> np.ndarray:
        """Waits for a step and returns its labels, uint8 (H, W), owned by the caller."""
        self._device.use()
        return slot.finish()

    def time_network(self, image: np.ndarray, runs: int) -> list[float]:
        """Seconds of the network alone, measured with the GPU's own clock; no copies, no labels."""
        self._device.use()
        return self._slots[0].time_network(image, runs)

    def time_labels(self, size_hw: Size, runs: int) -> list[float]:
        """Seconds of the label kernel alone, on the most recent logits."""
        self._device.use()
        return self._slots[0].time_labels(size_hw, runs)

    def time_layers(self) -> dict[str, float]:
        """Layer -> mean ms. Uses its own context, since a context with a profiler cannot run as a graph."""
        self._device.use()
        slot = _Slot(self._plan, None)
        try:
            return slot.execution.time_layers(slot.stream.handle)
        finally:
            slot.close()

    def layers(self) -> str:
        return self._plan.layers()

    def close(self) -> None:
        self._device.use()
        for slot in self._slots:
            slot.close()
        for item in reversed(self._closing):
            item.close()
        self._slots, self._closing = [], []


class _Slot:
    """Everything that one picture in flight needs."""

    def __init__(self, plan: Plan, kernel: Kernel | None) -> None:
        self._kernel = kernel
        self._classes, *coarse = plan.output_shape[1:]
        self._coarse_hw = (coarse[0], coarse[1])
        self._closing: list[Any] = []
        self._sized: list[Any] = []
        self._size_hw: Size | None = None
        self._arrays = ArrayPool()
        self.graph: Graph | None = None
        try:
            self.stream = self._keep(Stream())
            self._image = self._keep(Pinned(plan.input_shape[1:], np.uint8))
            self._device_image = self._keep(Buffer(self._image.size))
            self._logits = self._keep(Pinned(plan.output_shape[1:], np.float16 if plan.half else np.float32))
            self._device_logits = self._keep(Buffer(self._logits.size))
            self.execution: Execution = self._keep(
                plan.context(self._device_image.address, self._device_logits.address)
            )
            self.execution.enqueue(self.stream.handle)  # TensorRT's setup in the first run cannot be recorded
            self.stream.wait()
        except BaseException:
            self.close()
            raise

    def _keep(self, item: Any) -> Any:
        self._closing.append(item)
        return item

    def infer(self, image: np.ndarray) -> np.ndarray:
        np.copyto(self._image.array, image)
        self.stream.upload(self._device_image, self._image)
        self.execution.enqueue(self.stream.handle)
        self.stream.download(self._logits, self._device_logits)
        self.stream.wait()
        logits: np.ndarray = self._logits.array.astype(np.float32)
        return logits

    def start(self, image: np.ndarray, size_hw: Size) -> None:
        if size_hw != self._size_hw:
            self._prepare(size_hw)
        np.copyto(self._image.array, image)
        if self.graph is not None:
            self.graph.launch()
        else:
            self._step()

    def finish(self) -> np.ndarray:
        self.stream.wait()
        labels = self._arrays.take(self._labels.array.shape)
        np.copyto(labels, self._labels.array)
        return labels

    def _prepare(self, size_hw: Size) -> None:
        """Creates buffers and graph for labels of a size."""
        self.stream.wait()
        self._close_sized()
        (cells_y, places_y), (cells_x, places_x) = (
            places(coarse, full) for coarse, full in zip(self._coarse_hw, size_hw, strict=True)
        )
        tables = [self._table(array) for array in (cells_y, places_y, cells_x, places_x)]
        self._labels = Pinned(size_hw, np.uint8)
        self._sized.append(self._labels)
        self._device_labels = Buffer(self._labels.size)
        self._sized.append(self._device_labels)
        logits, labels = self._device_logits.address, self._device_labels.address
        self._arguments = (logits, self._classes, *self._coarse_hw, *tables, labels, *size_hw)
        self._size_hw = size_hw
        try:
            self.graph = self.stream.capture(self._step)
        except EngineError as error:
            _log.warning("running without a CUDA graph: %s", error)

    def _table(self, array: np.ndarray) -> int:
        """Copies an array to the GPU and returns its address."""
        held = Pinned(array.shape, array.dtype)
        self._sized.append(held)
        np.copyto(held.array, array)
        buffer = Buffer(held.size)
        self._sized.append(buffer)
        self.stream.upload(buffer, held)
        self.stream.wait()
        return buffer.address

    def _step(self) -> None:
        """Puts a picture's whole step on the stream."""
        self.stream.upload(self._device_image, self._image)
        self.execution.enqueue(self.stream.handle)
        self._launch_labels()
        self.stream.download(self._labels, self._device_labels)

    def _launch_labels(self) -> None:
        assert self._kernel is not None
        assert self._size_hw is not None
        self._kernel.launch(self.stream, grid(self._size_hw), BLOCK, self._arguments, _TYPES)

    def time_network(self, image: np.ndarray, runs: int) -> list[float]:
        np.copyto(self._image.array, image)
        self.stream.upload(self._device_image, self._image)
        try:
            graph = self.stream.capture(lambda: self.execution.enqueue(self.stream.handle))
        except EngineError:
            return self._time(lambda: self.execution.enqueue(self.stream.handle), runs)
        try:
            return self._time(graph.launch, runs)
        finally:
            graph.close()

    def time_labels(self, size_hw: Size, runs: int) -> list[float]:
        if size_hw != self._size_hw:
            self._prepare(size_hw)
        return self._time(self._launch_labels, runs)

    def _time(self, work: Any, runs: int) -> list[float]:
        watch = Stopwatch(self.stream)
        try:
            seconds = []
            for _ in range(runs):
                watch.start()
                work()
                seconds.append(watch.stop())
            return seconds
        finally:
            watch.close()

    def _close_sized(self) -> None:
        if self.graph is not None:
            self.graph.close()
            self.graph = None
        for item in reversed(self._sized):
            item.close()
        self._sized, self._size_hw = [], None

    def close(self) -> None:
        """Frees everything after the work in flight has ended."""
        if self._closing:  # the stream is the first entry
            try:
                self.stream.wait()
            except EngineError as error:
                _log.debug("what was in flight failed: %s", error)
        self._close_sized()
        for item in reversed(self._closing):
            item.close()
        self._closing = []
