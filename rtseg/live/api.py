"""The library in two calls: `load` a network, `stream` labelled frames."""

from collections.abc import Generator
from numbers import Real
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, as_size
from rtseg.live.labeller import Labeller
from rtseg.live.labellers.anytime import Anytime
from rtseg.live.ladder import Ladder, wishes
from rtseg.live.pipeline import Pipeline
from rtseg.live.policies import Deadline
from rtseg.live.segmenter import Segmenter
from rtseg.sources.base import Source
from rtseg.sources.open import open_source


def load(
    model: str | Path = "icnet",
    engine: str = "auto",
    precision: str = "auto",
    size: str | Size | None = None,
    threads: int | None = None,
) -> Segmenter:
    """Returns a segmenter for a network: one that ships, by name, or your own ONNX file with its card beside it.

    The engine is loaded with the first frame, since the input size depends on the frame's unless `size` is given.
    A segmenter serves one thread or one stream at a time, so load one for each.

    Args:
        model: a name (`rtseg models` lists them) or a path.
        engine: a name, or 'auto': the installed engine that makes the loop fastest. It is measured on this machine the
            first time, which takes some seconds, and remembered.
        precision: 'fp32', 'fp16', 'int8', or 'auto': INT8 if it loses at most 0.005 mIoU and is faster here, otherwise
            FP32, or FP16 on a GPU; `segmenter.info.why` says why. A precision that you name is never replaced.
        size: the network's input size, '256x512' or (256, 512).
        threads: CPU threads shared by everything; default: all cores available to this process.

    Raises:
        UsageError: an argument has a value that is not allowed.
        WeightsError: the network's file or card is missing or damaged.

    Example:
        >>> import rtseg
        >>> with rtseg.load("icnet") as segmenter:
        ...     labels = segmenter(frame)  # uint8 BGR (H, W, 3) -> uint8 (H, W)
    """
    return Segmenter(RunSpec(model, engine, precision, None if size is None else as_size(size), threads))


def anytime(
    deadline_ms: float,
    model: str | Path | None = None,
    engine: str = "auto",
    precision: str = "auto",
    size: str | Size | None = None,
    threads: int | None = None,
) -> Anytime:
    """Returns a labeller for `stream` that keeps a deadline: each frame gets the best labels that are ready in time.

    It chooses among networks, sizes and precisions. They are measured on this machine, and at most eight stay loaded.
    The deadline runs from a frame's capture until the body of the loop over the stream is done with it. If no labels
    are ready in time, the frame comes with those of an earlier one. A file is read at its own frame rate.

    Args:
        deadline_ms: milliseconds.
        model: a name or a path, to use only this network's sizes and precisions; None: all networks that ship.
        engine: as for `load`; a setting that you name is never replaced.
        precision: likewise.
        size: likewise.
        threads: CPU threads shared by everything; default: all cores available to this process.

    Raises:
        UsageError: an argument has a value that is not allowed.
        WeightsError: a network's file or card is missing or damaged.

    Example:
        >>> with rtseg.anytime(33) as labeller:
        ...     for frame, labels in rtseg.stream(0, labeller): ...
    """
    if not isinstance(deadline_ms, Real):
        raise UsageError(f"a deadline is a number of milliseconds, for example 33, not {deadline_ms!r}")
    wish = RunSpec(RunSpec.model, engine, precision, None if size is None else as_size(size), threads)
    return Anytime(Ladder(wishes(wish, model)), Deadline(float(deadline_ms) / 1e3))


def stream(source: str | int | Path | Source, segmenter: Labeller) -> Generator[tuple[Frame, np.ndarray], None, None]:
    """Yields (frame, labels uint8 (H, W)) while capture and inference run ahead in their own threads.

    A live source delivers its newest frame; any other delivers every frame in order. This call opens the source; it is
    closed when the stream ends or is dropped. From the first frame you ask for until then, only the stream may use the
    segmenter: load another one for anything else, even inside the loop. Videos are decoded with its threads.

    Raises:
        UsageError: `segmenter` is not one, or another stream or thread uses it; or the source is closed.
        InputError: the source cannot be opened or read.

    Example:
        >>> for frame, labels in rtseg.stream("drive.mp4", segmenter):
        ...     print(frame.timestamp_s, labels.shape)
    """
    if isinstance(segmenter, type) or not callable(getattr(segmenter, "submit", None)):
        raise UsageError(f"a stream needs a segmenter, as rtseg.load gives it, not {type(segmenter).__name__}")
    if isinstance(source, Source) and source.closed:
        raise UsageError(f"{source.name} is closed, or was read by an earlier stream: open it again")
    frames = _frames(source, segmenter)
    next(frames)  # opens the source, so its errors are raised here and a dropped stream closes it
    return frames


def _frames(source: str | int | Path | Source, segmenter: Labeller) -> Generator[Any, None, None]:
    """Yields None once the source is open, then what `stream` yields."""
    opened = source if isinstance(source, Source) else open_source(source, threads=segmenter.budget.codec)
    try:
        yield None
    except GeneratorExit:
        opened.close()
        raise
    with Pipeline(opened, segmenter) as pipeline:
        for result in pipeline:
            yield result.frame, result.labels
            pipeline.policy.shown(result.labelled_at, perf_counter())
