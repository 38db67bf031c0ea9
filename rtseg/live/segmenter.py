"""From a frame to its labels: the shared resize, an engine, and exact upsampling to the frame's own size."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from numbers import Integral, Real
from time import perf_counter
from typing import overload

import numpy as np

from rtseg.core.closing import Claimed
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Frame, Labelled, picture_of
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, as_size
from rtseg.core.threads import ThreadBudget, thread_budget
from rtseg.core.zoo import Artifact, resolve
from rtseg.engines import Engine, EngineInfo, EngineOptions, load_engine
from rtseg.live.labeller import drain
from rtseg.live.policies import Every, Policy
from rtseg.live.spec import check_spec, default_size
from rtseg.pictures.confidence import confidence
from rtseg.pictures.resize import resize_image
from rtseg.pictures.upsample import upsample_labels

Loader = Callable[[str, Artifact, EngineOptions], Engine]

Pictures = list[np.ndarray] | list[Frame] | tuple[np.ndarray | Frame, ...]


class Segmenter(Claimed):
    """Finds the class of every pixel of a frame: the `Labeller` that runs a network.

    It serves one thread or one pipeline at a time and refuses a second one.

    Attributes:
        policy: None, so the source decides how frames are read.

    Example:
        >>> with Segmenter(RunSpec("icnet")) as segmenter:
        ...     labels = segmenter(frame)  # uint8 (H, W), the frame's own size
    """

    policy: Policy | None = None

    def __init__(
        self, runs: Engine | RunSpec, *, budget: ThreadBudget | None = None, loader: Loader = load_engine
    ) -> None:
        """Sets up. The engine of a spec is loaded with the first frame, or by `prepare`.

        Args:
            runs: what to load, or an engine that is already loaded.
            budget: how the threads are shared; default: `thread_budget` of the spec's thread count.
            loader: builds the engine.

        Raises what `check_spec` does, and UsageError if the machine has fewer threads than asked for.
        """
        super().__init__("segmenter")
        self._spec: RunSpec | None = None
        self._engine: Engine | None = None
        if isinstance(runs, Engine):
            self._engine, self.card, threads = runs, runs.card, None
        else:
            artifact = check_spec(runs)
            self._spec, self.card, threads = replace(runs, model=artifact), artifact.card, runs.threads
        self.labels = self.card.labels
        self.budget = budget or thread_budget(threads)
        self._loader = loader
        self._resizes_s: deque[float] = deque()  # of the frames in flight
        self._scaled: list[Segmenter] = []

    @property
    def engine(self) -> Engine:
        """The engine; it exists once `prepare` was called or a frame was segmented."""
        if self._engine is None:
            raise UsageError("no engine is loaded yet: call prepare(frame size) or segment a frame first")
        return self._engine

    @property
    def info(self) -> EngineInfo:
        """What actually runs; known once there is an engine."""
        return self.engine.info

    def prepare(self, frame_hw: Size, most_in_flight: int = 1) -> EngineInfo:
        """Loads engine and kernels for frames of one size, so that the first frame is not slow.

        Args:
            frame_hw: height and width of the frames.
            most_in_flight: choose the number of frames in flight (`submit`, `collect`) that gives the most fps, up to
                this many; 1 gives the shortest time per frame. An engine that is already loaded stays as it is.

        Raises:
            UsageError: no size, or no number of frames.
            EngineError: the engine cannot be loaded, is closed, or failed.
        """
        frame_hw = as_size(frame_hw)
        if not (isinstance(most_in_flight, Integral) and most_in_flight >= 1):
            raise UsageError(f"{most_in_flight!r} frames in flight are not allowed: give 1 or more")
        if self._engine is None or self._closed:
            info = self._loaded(frame_hw, most_in_flight).info
            try:
                for _ in range(info.in_flight):
                    self.submit(np.zeros((*frame_hw, 3), np.uint8))
                for _ in range(info.in_flight):
                    self.collect()
            finally:
                self.discard()
        return self.info

    def at_scale(self, scale: float, frame_hw: Size) -> "Segmenter":
        """This network at `scale` times the input size that it has for frames of this size; itself if that is the same.

        Closing this segmenter closes the returned one too.

        Raises:
            UsageError: an invalid scale, or this segmenter was given an engine and does not know how to load another.
        """
        if not (isinstance(scale, Real) and 0 < scale < inf):
            raise UsageError(f"scale {scale!r} is not allowed: give a factor of the input size, such as 0.5")
        if scale == 1:
            return self
        if self._spec is None:
            raise UsageError("a segmenter around an engine has one input size: make it from a RunSpec")
        height, width = self._spec.size_hw or default_size(self.card, frame_hw)
        size_hw = self.card.nearest_size((round(height * scale), round(width * scale)))
        spec = replace(self._spec, size_hw=size_hw)
        for segmenter in self._scaled:
            if segmenter._spec == spec:
                return segmenter
        self._scaled.append(Segmenter(spec, budget=self.budget, loader=self._loader))
        return self._scaled[-1]

    def resize(self, image: np.ndarray) -> np.ndarray | None:
        """The network's input for a frame, for a thread with time to spare; None until an engine is loaded."""
        return None if self._engine is None else self.input(image)

    def input(self, image: np.ndarray, resized: np.ndarray | None = None) -> np.ndarray:
        """The network's input for a picture, once the engine is loaded. Frames are resized here and nowhere else.

        Args:
            image: uint8 BGR (H, W, 3).
            resized: returned if it already has the right size; it has another if the engine has changed since.
        """
        size_hw = self.info.size_hw
        return resize_image(image, size_hw) if resized is None or resized.shape[:2] != size_hw else resized

    @overload
    def __call__(self, frame: np.ndarray | Frame, out: np.ndarray | None = None) -> np.ndarray: ...

    @overload
    def __call__(self, frame: Pictures) -> list[np.ndarray]: ...

    def __call__(
        self, frame: np.ndarray | Frame | Pictures, out: np.ndarray | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """uint8 BGR (H, W, 3) -> labels uint8 (H, W); fills and returns `out` if given.

        A list or tuple of pictures returns a list of labels. While one is being labelled, the next are prepared. An
        engine that this call loads works on as many pictures at once as give the most pictures per second.

        Raises:
            UsageError: the picture has another dtype or shape, or a stream or another thread uses the segmenter.
            EngineError: the engine cannot be loaded, is closed, or failed.
        """
        if isinstance(frame, list | tuple):
            if out is not None:
                raise UsageError("out goes with one picture: a list of pictures gives a list of labels")
            return self._several([picture_of(one) for one in frame])
        image = picture_of(frame)
        size_hw = (image.shape[0], image.shape[1])
        self.claim()
        try:
            engine = self._loaded(size_hw)
            return engine.labels(self.input(image), size_hw, out)
        finally:
            self.release()

    def submit(self, frame: np.ndarray | Frame, resized: np.ndarray | None = None) -> None:
        """Starts a frame. Up to `info.in_flight` may be started; `collect` returns their labels in order.

        Args:
            frame: uint8 BGR (H, W, 3); it must not change until it is collected.
            resized: the frame as `resize` returned it; ignored if the engine has changed since and wants another size.

        Raises:
            UsageError: the picture has another dtype or shape.
            EngineError: the engine cannot be loaded, is closed, failed, or has no room.
        """
        image = picture_of(frame)
        size_hw = (image.shape[0], image.shape[1])
        engine, start = self._loaded(size_hw), perf_counter()
        resized = self.input(image, resized)
        seconds = perf_counter() - start
        engine.submit(resized, size_hw)
        self._resizes_s.append(seconds)

    def collect(self) -> Labelled:
        """The result for the oldest frame in flight; its stages are 'resize' and the engine's.

        Raises:
            EngineError: there is none, or the engine failed.
        """
        resize_s = self._resizes_s.popleft() if self._resizes_s else 0.0
        made = self.engine.collect()
        return replace(made, stages_s={"resize": resize_s, **made.stages_s})

    def discard(self) -> None:
        """Waits for the frames in flight and discards their labels."""
        drain(self._resizes_s, self.collect)

    def _loaded(self, frame_hw: Size, most_in_flight: int = 1) -> Engine:
        if self._closed:
            raise EngineError("this segmenter is closed: load another")
        if self._engine is None:
            spec, threads = self._spec, self.budget.engine
            assert spec is not None
            size_hw = spec.size_hw or default_size(self.card, frame_hw)
            ahead, exits = min(threads, most_in_flight), spec.exit is not None
            options = EngineOptions(size_hw, spec.precision, threads, ahead, exits)
            self._engine = self._loader(spec.engine, resolve(spec.model), options)
        return self._engine

    def _free(self) -> None:
        self._resizes_s.clear()
        if self._engine is not None:
            self._engine.close()
        for segmenter in self._scaled:
            segmenter.close()

    def logits(self, frame: np.ndarray | Frame) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> the network's scores, float32 (C, h, w), at its own coarse size; the caller owns them.

        Raises what a call does, and UsageError if an imported network outputs labels only.
        """
        if self.card.gives_labels:
            raise UsageError(
                f"{self.card.name} gives labels, not scores: import it again with an output before its argmax"
            )
        image = picture_of(frame)
        self.claim()
        try:
            engine = self._loaded((image.shape[0], image.shape[1]))
            return engine.infer(self.input(image)).copy()
        finally:
            self.release()

    def confidence(self, frame: np.ndarray | Frame) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> float32 (H, W): the network's probability of each pixel's class, 1/C to 1.

        Raises what `logits` does.
        """
        return self.with_confidence(frame)[1]

    def with_confidence(self, frame: np.ndarray | Frame) -> tuple[np.ndarray, np.ndarray]:
        """uint8 BGR (H, W, 3) -> (labels uint8 (H, W), confidence float32 (H, W)), from one run of the network.

        The confidence is the network's probability of each pixel's class, 1/C to 1, at its card's temperature.
        Raises what `logits` does.
        """
        image = picture_of(frame)
        logits, size_hw = self.logits(image), (image.shape[0], image.shape[1])
        threads = self.info.threads
        sure = confidence(logits, size_hw, self.card.temperature, threads=threads)
        return upsample_labels(logits, size_hw, threads=threads), sure

    def areas(self, labels: np.ndarray) -> dict[str, float]:
        """uint8 (H, W) -> each class's share of the picture, 0 to 1, by class name; UsageError for any other array."""
        if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
            raise UsageError("areas need labels, uint8 (H, W), as a call of the segmenter gives them")
        shares = np.bincount(labels.ravel(), minlength=len(self.labels)) / labels.size
        return dict(zip(self.labels.names, shares.tolist(), strict=False))

    def _several(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The labels of each image, with as many in flight as the engine takes."""
        found: list[np.ndarray] = []
        self.claim()
        try:
            for image in images:
                engine = self._loaded((image.shape[0], image.shape[1]), Every().most_in_flight)
                if len(self._resizes_s) == engine.info.in_flight:
                    found.append(self.collect().labels)
                self.submit(image)
            while self._resizes_s:
                found.append(self.collect().labels)
        finally:
            self.discard()
            self.release()
        return found
