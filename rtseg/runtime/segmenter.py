"""From a frame to its labels: the shared resize, an engine, exact upsampling to the frame's own size."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from time import perf_counter
from types import TracebackType
from typing import Self

import numpy as np

from rtseg.core.card import PRECISIONS, Card
from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.registry import unknown_name
from rtseg.core.sizes import Size, check_multiple, nearest_multiple
from rtseg.core.weights import Artifact, resolve
from rtseg.engines import ENGINES, Engine, EngineInfo, EngineOptions, load_engine
from rtseg.runtime.policy import thread_budget
from rtseg.vision.resize import resize_image
from rtseg.vision.upsample import upsample_labels

_log = logging.getLogger(__name__)


def default_size(card: Card, frame_hw: Size) -> Size:
    """The network's input size for a frame: the frame's shape, at most as many pixels as it was trained at.

    Never larger than the frame, then rounded to the nearest multiple that the network takes.
    """
    height, width = frame_hw
    scale = min(1.0, sqrt(card.train_size[0] * card.train_size[1] / (height * width)))
    return nearest_multiple((round(height * scale), round(width * scale)), card.size_multiple)


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

    def load(self, frame_hw: Size) -> Engine:
        """Loads the engine for frames of a size; raises what `rtseg.engines.load_engine` does."""
        size_hw = self.size_hw or default_size(self.card, frame_hw)
        return self.loader(self.engine, self.artifact, EngineOptions(size_hw, self.precision, self.threads))


class Segmenter:
    """Gives every pixel of a frame its class. Not thread-safe: one thread at a time.

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
        self._submitted: deque[tuple[float, float]] = deque()  # seconds of resizing, and when it was submitted

    @property
    def engine(self) -> Engine:
        """The engine; there is one once `prepare` was called or a frame was segmented."""
        if self._engine is None:
            raise UsageError("no engine is loaded yet: call prepare(frame size) or segment a frame first")
        return self._engine

    @property
    def info(self) -> EngineInfo:
        """What really runs; known as soon as there is an engine."""
        return self.engine.info

    def prepare(self, frame_hw: Size) -> EngineInfo:
        """Loads engine and kernels for frames of a size, so that the first frame is not late."""
        self(np.zeros((*frame_hw, 3), np.uint8))
        return self.info

    def resize(self, image: np.ndarray) -> np.ndarray | None:
        """The network's input for a frame, for a thread that has time for it; None while no engine is loaded."""
        return None if self._engine is None else resize_image(image, self._engine.info.size_hw)

    def __call__(
        self, frame: np.ndarray | Frame, out: np.ndarray | None = None, *, resized: np.ndarray | None = None
    ) -> np.ndarray:
        """uint8 BGR (H, W, 3) -> labels uint8 (H, W); `out` is filled and returned where given.

        `resized` is what `resize` made of the frame; one of another size, from before the engine changed, is not used.

        Raises:
            UsageError: the picture has another dtype or shape.
            EngineError: the engine cannot be loaded, is closed, or failed.
        """
        engine, image, frame_hw = self._ready(frame, resized)
        return self._run(engine, image, frame_hw, out)

    @property
    def in_flight(self) -> int:
        """Frames that `submit` takes before `collect` must be called; 1 while no engine is loaded."""
        return 1 if self._engine is None else self._engine.info.in_flight

    def submit(self, frame: np.ndarray | Frame, *, resized: np.ndarray | None = None) -> None:
        """Starts a frame; its labels come out of `collect`, in the order of submission. Takes what a call takes."""
        engine, image, frame_hw = self._ready(frame, resized)
        start = perf_counter()
        small = resize_image(image, engine.info.size_hw)
        submitted = perf_counter()
        engine.submit(small, frame_hw)
        self._submitted.append((submitted - start, submitted))

    def collect(self) -> np.ndarray:
        """Labels uint8 (H, W) of the oldest frame under way, a new array.

        The 'engine' of `stages_s` is then the time from submission to labels, waiting for frames before it included.
        """
        resize_s, submitted = self._submitted.popleft()
        labels = self.engine.collect()
        self.stages_s = {"resize": resize_s, "engine": perf_counter() - submitted}
        return labels

    def discard(self) -> None:
        """Waits for all frames under way and throws their labels away."""
        while self._submitted:
            try:
                self.collect()
            except Exception as error:  # whatever it is: what made the caller give up is told already
                _log.debug("a frame that nobody waits for failed: %s", error)

    def _ready(self, frame: np.ndarray | Frame, resized: np.ndarray | None) -> tuple[Engine, np.ndarray, Size]:
        """The engine, what it is to be given (if need be resized), and the frame's size."""
        image = frame.image if isinstance(frame, Frame) else frame
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise UsageError(f"a frame must be uint8 BGR (H, W, 3), not {image.dtype} {image.shape}")
        frame_hw = (image.shape[0], image.shape[1])
        if self._engine is None:
            assert self._choice is not None
            self._engine = self._choice.load(frame_hw)
        if resized is None or resized.shape[:2] != self._engine.info.size_hw:
            resized = image
        return self._engine, resized, frame_hw

    def _run(self, engine: Engine, image: np.ndarray, size_hw: Size, out: np.ndarray | None) -> np.ndarray:
        start = perf_counter()
        small = resize_image(image, engine.info.size_hw)
        resized = perf_counter()
        if type(engine).labels is not Engine.labels:  # it upsamples by itself, on its device
            labels = engine.labels(small, size_hw, out)
            self.stages_s = {"resize": resized - start, "engine": perf_counter() - resized}
            return labels
        logits = engine.infer(small)
        inferred = perf_counter()
        labels = upsample_labels(logits, size_hw, out, threads=engine.info.threads)
        self.stages_s = {
            "resize": resized - start,
            "engine": inferred - resized,
            "upsample": perf_counter() - inferred,
        }
        return labels

    def close(self) -> None:
        """Frees the engine; a second call does nothing."""
        self._submitted.clear()
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_segmenter(
    model: str = "icnet",
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
