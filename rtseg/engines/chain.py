"""Engines that run a network as a chain of graphs and can stop at the exit after each graph."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.sizes import Size, format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineOptions
from rtseg.engines.run import Corners, Run

Arrays = dict[str, np.ndarray]
"""Tensor name -> its value; the picture is uint8 (N, h, w, 3), all others are float32 (N, C, h, w)."""


class ChainEngine(Engine):
    """Holds one graph, or a chain of them with `EngineOptions.exits`; tensors between graphs stay in its own memory.

    A subclass implements `_begin` and `_step` and, for parts of a picture, `_whole` and `_open`.

    Attributes:
        length: how many graphs there are.
    """

    length: int
    _started = 0  # pictures started so far

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        self._artifact, self._options = artifact, options
        self._opened: dict[tuple[int, Size], list[PartGraph]] = {}

    @cached_property
    def _paths(self) -> list[Path]:
        """The graphs in order; raises UsageError if there are none in this precision."""
        artifact, precision = self._artifact, self._options.precision
        return artifact.chain(precision) if self._options.exits else [artifact.file(precision)]

    @abstractmethod
    def _begin(self, image: np.ndarray) -> None:
        """Takes a checked picture, which replaces the one before."""

    @abstractmethod
    def _step(self, number: int) -> np.ndarray:
        """Runs graph `number` on the outputs of those before it; returns its logits, float32 (C, h/s, w/s)."""

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns errors of the library that runs the graphs into EngineError."""
        try:
            yield
        except Exception as error:
            name, size = self.info.engine, format_size(self.info.size_hw)
            raise EngineError(f"{name} failed to run {self.card.name} at {size}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        """The part of an error message that matters."""
        return str(error)

    @abstractmethod
    def _whole(self) -> Arrays:
        """The picture and all tensors passed between graphs, for one picture, in the engine's memory."""

    @abstractmethod
    def _open(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> "PartGraph":
        """Loads a graph for any number of parts.

        Args:
            path: the graph's file.
            shapes: tensor -> its shape for one part, (C, h, w), or (h, w, 3) for the picture; has all tensors of
                `_whole`.
        """

    def start(self, image: np.ndarray) -> Run:
        if not self._exits:
            return super().start(image)
        self._begin(self._checked(image))
        number = self._started

        def current() -> None:
            if self._closed or number != self._started:
                raise EngineError("the engine was closed or given another picture: start this one again")

        def step(graph: int) -> np.ndarray:
            current()
            return self._step(graph)

        def parts(graph: int, corners: Corners, size_hw: Size) -> np.ndarray:
            current()
            return self._part_logits(graph, corners, size_hw)

        return Run([exit.name for exit in self.card.exits], step, parts)

    def _part_logits(self, first: int, corners: Corners, size_hw: Size) -> np.ndarray:
        """Runs the graphs from `first` on for parts of the picture; returns logits, float32 (N, C, h/s, w/s)."""
        self._check_parts(corners, size_hw)
        whole, height = self._whole(), self.info.size_hw[0]
        strides = {name: 1 if array.dtype == np.uint8 else height // array.shape[2] for name, array in whole.items()}
        if (first, size_hw) not in self._opened:
            shapes = {name: _cut(array, [(0, 0)], size_hw, strides[name]).shape[1:] for name, array in whole.items()}
            self._opened[first, size_hw] = [self._open(path, shapes) for path in self._paths[first:]]
        given: Arrays = {}
        for graph in self._opened[first, size_hw]:
            for name in graph.takes:
                if name not in given:
                    given[name] = _cut(whole[name], corners, size_hw, strides[name])
            logits, made = graph.run(given)
            given |= made
        return logits

    def _check_parts(self, corners: Corners, size_hw: Size) -> None:
        multiple, picture = self.card.size_multiple, self.info.size_hw
        for corner in corners:
            for start, side, most in zip(corner, size_hw, picture, strict=True):
                if start < 0 or side < 1 or start % multiple or side % multiple or start + side > most:
                    raise UsageError(
                        f"a part of {format_size(size_hw)} at {tuple(corner)} does not fit a picture of "
                        f"{format_size(picture)}: it must lie inside, on multiples of {multiple}"
                    )

    def _infer(self, image: np.ndarray) -> np.ndarray:
        self._begin(image)
        for number in range(self.length - 1):
            self._step(number)
        return self._step(self.length - 1)

    def _checked(self, image: np.ndarray) -> np.ndarray:
        image = super()._checked(image)
        self._started += 1
        return image


@dataclass
class PartGraph:
    """A graph of the chain, loaded for parts of a picture.

    Attributes:
        takes: names of its input tensors.
        run: tensors (N, …) -> its logits float32 (N, C, h/s, w/s), and the tensors for later graphs.
    """

    takes: list[str]
    run: Callable[[Arrays], tuple[np.ndarray, Arrays]]


def _cut(array: np.ndarray, corners: Corners, size_hw: Size, stride: int) -> np.ndarray:
    """Equal parts of (1, C, h, w), or of the picture (1, h, w, 3), as one batch; corners and size in pixels."""
    rows, columns = (side // stride for side in size_hw)
    places = [(slice(top // stride, top // stride + rows), slice(left // stride, left // stride + columns))
              for top, left in corners]  # fmt: skip
    if array.shape[2:] == (1, 1):  # belongs to the whole picture
        return np.repeat(array, len(corners), 0)
    if array.dtype == np.uint8:
        return np.stack([array[0, down, along] for down, along in places])
    return np.stack([array[0, :, down, along] for down, along in places])
