"""From a frame to its labels: the shared resize, an engine, exact upsampling to the frame's own size."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import overload

import numpy as np

from rtseg.core.card import PRECISIONS, Card
from rtseg.core.closing import Closing
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.frame import Frame
from rtseg.core.registry import unknown_name
from rtseg.core.sizes import Size, check_multiple, network_size
from rtseg.core.zoo import Artifact, resolve
from rtseg.engines import ENGINES, Engine, EngineInfo, EngineOptions, load_engine
from rtseg.live.policy import frames_in_flight, thread_budget
from rtseg.pictures.confidence import confidence
from rtseg.pictures.resize import resize_image

_log = logging.getLogger(__name__)

Pictures = list[np.ndarray] | list[Frame] | tuple[np.ndarray | Frame, ...]


def default_size(card: Card, frame_hw: Size) -> Size:
    """The network's input size for a frame unless the user gives one."""
    return network_size(frame_hw, card.train_size, card.size_multiple)


@dataclass(frozen=True)
class EngineChoice:
    """What to load once the frame's size is known; everything that can be checked before is.

    Attributes:
        artifact: the network's card and files.
        engine: a name of the engine registry, or 'auto'.
        precision: 'fp32', 'fp16' or 'int8'.
        size_hw: the network's input size; None: `default_size` of the first frame.
        threads: CPU threads of the engine.
        loader: builds the engine.
    """

    artifact: Artifact
    engine: str = "auto"
    precision: str = "fp32"
    size_hw: Size | None = None
    threads: int = 1
    loader: Callable[[str, Artifact, EngineOptions], Engine] = load_engine

    def __post_init__(self) -> None:
        if self.engine != "auto":
            ENGINES.check(self.engine)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, list(PRECISIONS))
        if self.size_hw is not None:
            check_multiple(self.size_hw, self.card.size_multiple, self.card.name)

    @property
    def card(self) -> Card:
        return self.artifact.card

    def load(self, frame_hw: Size, *, ahead: bool = False) -> Engine:
        """Loads the engine for frames of a size, one at a time or, `ahead`, as many as give the most fps.

        Raises what `rtseg.engines.load_engine` does.
        """
        size_hw = self.size_hw or default_size(self.card, frame_hw)
        in_flight = frames_in_flight(self.threads) if ahead else 1
        options = EngineOptions(size_hw, self.precision, self.threads, in_flight)
        return self.loader(self.engine, self.artifact, options)


class Segmenter(Closing):
    """Gives every pixel of a frame its class. One thread or one pipeline at a time; a second one is refused.

    Example:
        >>> with Segmenter(EngineChoice(resolve("icnet"))) as segmenter:
        ...     labels = segmenter(frame)  # uint8 (H, W), the frame's own size
    """

    def __init__(self, engine: Engine | EngineChoice) -> None:
        self.card = engine.card
        self.labels = engine.card.labels
        self.stages_s: dict[str, float] = {}
        """Seconds that the last frame spent in 'resize', 'engine' and, unless the engine does it, 'upsample'."""
        self._choice = engine if isinstance(engine, EngineChoice) else None
        self._engine = engine if isinstance(engine, Engine) else None
        self._resizes_s: deque[float] = deque()  # of the frames in flight
        self._in_use = Lock()
        self._closed = False

    @property
    def engine(self) -> Engine:
        """The engine; there is one once `prepare` was called or a frame was segmented."""
        if self._engine is None:
            raise UsageError("no engine is loaded yet: call prepare(frame size) or segment a frame first")
        return self._engine

    @property
    def loaded(self) -> bool:
        """Whether there is an engine."""
        return self._engine is not None

    @property
    def busy(self) -> bool:
        """Whether frames are in flight."""
        return bool(self._resizes_s)

    @property
    def info(self) -> EngineInfo:
        """What really runs; known as soon as there is an engine."""
        return self.engine.info

    def prepare(self, frame_hw: Size, *, ahead: bool = False) -> EngineInfo:
        """Loads engine and kernels for frames of a size, so that the first frame is not late.

        Args:
            frame_hw: height and width of the frames.
            ahead: load for as many frames in flight as give the most fps (`submit`, `collect`), rather than for the
                shortest time of one; an engine that is loaded already stays as it is.
        """
        engine = self._loaded(frame_hw, ahead=ahead)
        for _ in range(engine.info.in_flight):
            self.submit(np.zeros((*frame_hw, 3), np.uint8))
        for _ in range(engine.info.in_flight):
            self.collect()
        return self.info

    def resize(self, image: np.ndarray) -> np.ndarray | None:
        """The network's input for a frame, for a thread that has time for it; None while no engine is loaded."""
        return None if self._engine is None else resize_image(image, self._engine.info.size_hw)

    @overload
    def __call__(self, frame: np.ndarray | Frame, out: np.ndarray | None = None) -> np.ndarray: ...

    @overload
    def __call__(self, frame: Pictures) -> list[np.ndarray]: ...

    def __call__(
        self, frame: np.ndarray | Frame | Pictures, out: np.ndarray | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """uint8 BGR (H, W, 3) -> labels uint8 (H, W); `out` is filled and returned where given.

        A list or tuple of pictures gives a list of labels. While one is labelled the next are prepared, and an engine
        that is loaded by such a call works on as many at a time as give the most pictures a second.

        Raises:
            UsageError: the picture has another dtype or shape, or a stream or another thread uses the segmenter.
            EngineError: the engine cannot be loaded, is closed, or failed.
        """
        if isinstance(frame, list | tuple):
            return self._several([_checked(one) for one in frame])
        image = _checked(frame)
        size_hw = (image.shape[0], image.shape[1])
        self.claim()
        try:
            engine = self._loaded(size_hw)
            small, seconds = self._input(image, None)
            labels = engine.labels(small, size_hw, out)
            self.stages_s = {"resize": seconds, **engine.stages_s}
        finally:
            self.release()
        return labels

    def claim(self) -> None:
        """Keeps the segmenter for a user of `submit` and `collect` until `release`.

        Raises:
            UsageError: it is in use.
        """
        if not self._in_use.acquire(blocking=False):
            raise UsageError("this segmenter is in use by a stream or another thread: load a second one for this")

    def release(self) -> None:
        """Ends what `claim` began."""
        self._in_use.release()

    def submit(self, frame: np.ndarray | Frame, resized: np.ndarray | None = None) -> None:
        """Starts a frame; up to `info.in_flight` may wait, whose labels `collect` gives in order.

        Args:
            frame: uint8 BGR (H, W, 3); it must stay as it is until it is collected.
            resized: what `resize` made of it; one of another size, from before the engine changed, is not used.

        Raises:
            UsageError: the picture has another dtype or shape.
            EngineError: the engine cannot be loaded, is closed, failed, or has no room.
        """
        image = _checked(frame)
        size_hw = (image.shape[0], image.shape[1])
        engine = self._loaded(size_hw)
        small, seconds = self._input(image, resized)
        engine.submit(small, size_hw)
        self._resizes_s.append(seconds)

    def collect(self) -> np.ndarray:
        """The labels, uint8 (H, W), of the oldest frame in flight; raises EngineError where there is none."""
        resize_s = self._resizes_s.popleft() if self._resizes_s else 0.0
        labels = self.engine.collect()
        self.stages_s = {"resize": resize_s, **self.engine.stages_s}
        return labels

    def discard(self) -> None:
        """Waits for the frames in flight and throws their labels away."""
        while self._resizes_s:
            try:
                self.collect()
            except Exception as error:  # whatever it is: what made the caller give up is reported already
                _log.debug("a frame that nobody waits for failed: %s", error)

    def _loaded(self, frame_hw: Size, *, ahead: bool = False) -> Engine:
        if self._closed:
            raise EngineError("this segmenter is closed: load another")
        if self._engine is None:
            assert self._choice is not None
            self._engine = self._choice.load(frame_hw, ahead=ahead)
        return self._engine

    def _input(self, image: np.ndarray, resized: np.ndarray | None) -> tuple[np.ndarray, float]:
        """The network's input, and the seconds that it took."""
        start, size_hw = perf_counter(), self.engine.info.size_hw
        if resized is None or resized.shape[:2] != size_hw:
            resized = resize_image(image, size_hw)
        return resized, perf_counter() - start

    def close(self) -> None:
        """Frees the engine; a second call does nothing."""
        self._closed = True
        self._resizes_s.clear()
        if self._engine is not None:
            self._engine.close()

    def logits(self, frame: np.ndarray | Frame) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> the network's scores, float32 (C, h, w), at its own coarse size; yours to keep.

        Raises what a call does.
        """
        image = _checked(frame)
        self.claim()
        try:
            engine = self._loaded((image.shape[0], image.shape[1]))
            return engine.infer(self._input(image, None)[0]).copy()
        finally:
            self.release()

    def confidence(self, frame: np.ndarray | Frame) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> float32 (H, W): the network's own probability of each pixel's class, 1/C to 1.

        Raises what a call does.
        """
        image = _checked(frame)
        return confidence(self.logits(image), (image.shape[0], image.shape[1]))

    def areas(self, labels: np.ndarray) -> dict[str, float]:
        """uint8 (H, W) -> each class's share of the picture, 0 to 1, by its name; UsageError for another array."""
        if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
            raise UsageError("areas need labels, uint8 (H, W), as a call of the segmenter gives them")
        shares = np.bincount(labels.ravel(), minlength=len(self.labels)) / labels.size
        return dict(zip(self.labels.names, shares.tolist(), strict=False))

    def _several(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The labels of each, with as many in flight as the engine takes."""
        found: list[np.ndarray] = []
        self.claim()
        try:
            for image in images:
                engine = self._loaded((image.shape[0], image.shape[1]), ahead=True)
                if len(self._resizes_s) == engine.info.in_flight:
                    found.append(self.collect())
                self.submit(image)
            while self.busy:
                found.append(self.collect())
        finally:
            self.discard()
            self.release()
        return found


def _checked(frame: np.ndarray | Frame) -> np.ndarray:
    image = frame.image if isinstance(frame, Frame) else frame
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        raise UsageError(f"a frame must be an array, uint8 BGR (H, W, 3), not {kind}: rtseg.open_source reads files")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"a frame must be uint8 BGR (H, W, 3), not {image.dtype} {image.shape}")
    return image


def open_segmenter(
    model: str | Path = "icnet",
    engine: str = "auto",
    precision: str = "fp32",
    size_hw: Size | None = None,
    threads: int | None = None,
) -> Segmenter:
    """A segmenter for a network that ships, or for the path of a user's own ONNX file.

    Raises:
        UsageError: unknown model, engine or precision, or a size that does not fit.
        WeightsError: a file or its card is missing or damaged.
    """
    return Segmenter(EngineChoice(resolve(model), engine, precision, size_hw, thread_budget(threads).engine))
