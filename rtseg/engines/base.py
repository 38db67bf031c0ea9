"""The contract of every inference engine: uint8 picture in, coarse logits or full-size labels out."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from rtseg.core.arrays import ArrayPool
from rtseg.core.closing import Closing
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Labelled
from rtseg.core.sizes import Size, format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.run import Run
from rtseg.pictures.resize import enlarge_labels
from rtseg.pictures.upsample import upsample_labels

_INHERITED: "list[Engine]" = []  # engines of the process that this one was forked from
Timed = tuple[np.ndarray, dict[str, float]]
"""Labels uint8 (H, W), and the seconds of 'engine' and 'upsample'; no seconds if a device does both in one step."""


@dataclass(frozen=True)
class EngineOptions:
    """How to load a network.

    Attributes:
        size_hw: input height and width, which the card must allow.
        precision: 'fp32', 'fp16' or 'int8'. An engine that cannot run it raises an error; it never uses another.
            `load_engine` also takes 'auto'.
        threads: CPU threads the engine may use.
        in_flight: pictures to keep in flight at once; more gives more fps, but each picture takes longer.
        exits: load the chain of graphs that can stop at the network's exits, not the graph of the whole network.
    """

    size_hw: Size
    precision: str = "fp32"
    threads: int = 1
    in_flight: int = 1
    exits: bool = False


@dataclass(frozen=True)
class EngineInfo:
    """What actually runs; `why` is why 'auto' chose it, and empty if it was named."""

    engine: str
    runtime: str  # library and version
    device: str
    precision: str
    size_hw: Size
    threads: int
    in_flight: int = 1
    why: str = ""


class Engine(Closing, ABC):
    """Runs one deployment graph at one input size. Not thread-safe: one engine per thread.

    A subclass sets `info` and implements `_infer` and, if it holds resources, `_release`.

    Attributes:
        info: what actually runs.
    """

    info: EngineInfo

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        self.card = artifact.card
        self.card.check_size(options.size_hw)
        self._arrays = ArrayPool()
        self._pending: deque[tuple[float, Any]] = deque()  # submission time, and what `_submit` returned
        self._pending_logits: deque[Callable[[], Timed]] = deque()
        self._exits = options.exits
        self._process = os.getpid()
        self._closed = False

    @abstractmethod
    def _infer(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3), contiguous and of the right size -> float32 `card.output_shape`."""

    def _release(self) -> None:
        """Frees what the vendor library holds."""

    def infer(self, image: np.ndarray) -> np.ndarray:
        """uint8 BGR (h, w, 3) -> logits float32 (C, h/s, w/s), valid until the next call.

        For a network that outputs labels, these are its ids, float32 (1, h/s, w/s).

        Raises:
            UsageError: wrong dtype or shape.
            EngineError: the engine is closed, or the vendor library failed.
        """
        return self._infer(self._checked(image))

    def start(self, image: np.ndarray) -> Run:
        """uint8 BGR (h, w, 3) -> a run from exit to exit, valid until the engine gets another picture.

        Raises:
            UsageError: wrong dtype or shape, or the engine was not loaded with `EngineOptions.exits`.
            EngineError: the engine is closed.
        """
        raise UsageError(f"{self.info.engine} was loaded to run {self.card.name} to its end: load it with exits=True")

    def labels(self, image: np.ndarray, size_hw: Size, out: np.ndarray | None = None) -> np.ndarray:
        """uint8 BGR (h, w, 3) -> labels uint8 `size_hw`; fills and returns `out` if given."""
        return self._labels(self._checked(image), size_hw, out)[0]

    def submit(self, image: np.ndarray, size_hw: Size) -> None:
        """Starts a picture, which must not change until its labels are collected.

        Raises:
            UsageError: wrong dtype or shape.
            EngineError: the engine is closed, failed, or has `info.in_flight` pictures already.
        """
        image = self._with_room(image)
        self._pending.append((perf_counter(), self._submit(image, size_hw)))

    def collect(self, out: np.ndarray | None = None) -> Labelled:
        """The labels of the oldest submitted picture, in `out` if given, and the time of each stage.

        The stages are 'engine' and, unless a device does both in one step, 'upsample'.

        Raises:
            EngineError: none is in flight, or the picture failed.
        """
        if not self._pending:
            raise EngineError("no picture is in flight: call submit() first")
        submitted, started = self._pending.popleft()
        labels, stages_s = self._collect(started)
        stages_s = stages_s or {"engine": perf_counter() - submitted}
        if out is not None:
            np.copyto(out, labels)
            labels = out
        return Labelled(labels, stages_s)

    def submit_logits(self, image: np.ndarray) -> None:
        """Starts a picture whose logits `collect_logits` returns; raises what `submit` does."""
        self._pending_logits.append(self._submit_logits(self._with_room(image)))

    def collect_logits(self) -> Timed:
        """Logits of the oldest picture, as `infer` returns them but owned by the caller, and the seconds of 'engine'.

        Raises what `collect` does.
        """
        if not self._pending_logits:
            raise EngineError("no picture is in flight: call submit_logits() first")
        return self._pending_logits.popleft()()

    def _submit_logits(self, image: np.ndarray) -> Callable[[], Timed]:
        """Returns a function for the logits of a checked picture; here they are computed at once."""
        start = perf_counter()
        logits = self._arrays.copy(self._infer(image))
        seconds = perf_counter() - start
        return lambda: (logits, {"engine": seconds})

    def _labels(self, image: np.ndarray, size_hw: Size, out: np.ndarray | None) -> Timed:
        """Labels of a checked picture; upsampled on the CPU here, while GPU engines do it on their device."""
        start = perf_counter()
        logits = self._infer(image)
        inferred = perf_counter()
        out = self._arrays.take(size_hw) if out is None else out
        if self.card.gives_labels:
            enlarge_labels(logits[0], size_hw, out)
        else:
            upsample_labels(logits, size_hw, out, threads=self.info.threads)
        return out, {"engine": inferred - start, "upsample": perf_counter() - inferred}

    def _submit(self, image: np.ndarray, size_hw: Size) -> Any:
        """Starts a checked picture and returns what `_collect` needs; here the labels are computed at once."""
        return self._labels(image, size_hw, None)

    def _collect(self, started: Any) -> Timed:
        """Labels, owned by the caller, from what `_submit` returned."""
        made: Timed = started
        return made

    def _with_room(self, image: np.ndarray) -> np.ndarray:
        """The picture as a contiguous array; raises as `submit` says."""
        image = self._checked(image)
        if (count := len(self._pending) + len(self._pending_logits)) >= self.info.in_flight:
            raise EngineError(f"{count} pictures are in flight already: call collect() first")
        return image

    def _checked(self, image: np.ndarray) -> np.ndarray:
        """The picture as a contiguous array; raises as `infer` says."""
        if self._closed:
            raise EngineError(f"the {self.info.engine} engine is closed: load a new one")
        expected = (*self.info.size_hw, 3)
        if image.dtype != np.uint8 or image.shape != expected:
            raise UsageError(
                f"{self.info.engine} was loaded for uint8 {expected} pictures and was given {image.dtype} "
                f"{image.shape}: resize the picture, or load with size {format_size(image.shape[:2])}"
            )
        return np.ascontiguousarray(image)

    def close(self) -> None:
        """Frees the engine; a second call does nothing.

        A process that was forked from the one that loaded it keeps the engine: its threads do not exist there, and
        freeing it would wait for them.
        """
        if not self._closed and os.getpid() != self._process:
            self._closed = True
            _INHERITED.append(self)  # keeps Python from freeing it too
        if not self._closed:
            self._closed = True
            self._pending.clear()
            self._pending_logits.clear()
            self._release()
