"""What is fixed about an input before its first frame is labelled: settings, segments, and its fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np

import rtseg
from rtseg.batch.jobs import Job, is_pattern
from rtseg.batch.sound import plan_sound
from rtseg.batch.task import CRF, ENCODER_THREADS, PRESET, Look
from rtseg.core.addresses import without_password
from rtseg.core.card import Card
from rtseg.core.errors import InputError
from rtseg.core.runspec import AUTO, RunSpec
from rtseg.core.sizes import Size
from rtseg.engines import ENGINES, available, distribution
from rtseg.live.spec import default_size
from rtseg.sinks.video import NOMINAL_FPS
from rtseg.sources.images import list_images
from rtseg.sources.open import open_source
from rtseg.sources.span import ENDLESS
from rtseg.sources.video_index import VideoIndex, index_video

LOST_S = 2.0  # of video that a kill loses at most: the labelled part of a segment, and frames in flight
IN_FLIGHT = 8  # frames in flight between the engine and the writer
_SEGMENT_S = 1.5
_PICTURES = 16  # pictures in a segment


@dataclass(frozen=True)
class Choice:
    """What the user chose for all inputs.

    Attributes:
        card: the network's card.
        spec: what runs; its engine is never 'auto'. Without a size, it depends on each input's own. Without threads,
            the batch decides, and unfinished work keeps what it was begun with.
        overwrite: replace finished outputs, and restart work that was begun with other settings.
        auto: which of 'engine' and 'precision' the user left open; unfinished work keeps what it was begun with.
        steady: average the scores over time.
    """

    card: Card
    spec: RunSpec
    look: Look
    overwrite: bool = False
    auto: frozenset[str] = frozenset()
    steady: bool = False

    def as_begun(self, settings: Mapping[str, Any]) -> "Choice":
        """This choice with an earlier run's engine and precision if the user left them open and they still run here."""
        if not self.auto or not (settings["engine"] in ENGINES and available(settings["engine"])):
            return self
        return replace(self, spec=replace(self.spec, **{name: settings[name] for name in self.auto}))

    def with_threads(self, threads: int | None) -> Self:
        """This choice with so many threads per worker; None: the batch decides."""
        return replace(self, spec=replace(self.spec, threads=threads))

    def network(self, frame_hw: Size, threads: int) -> RunSpec:
        """The spec of the network for frames of this size."""
        return replace(self.spec, size_hw=self.spec.size_hw or default_size(self.card, frame_hw), threads=threads)

    def settings(self, network: RunSpec) -> dict[str, Any]:
        """Everything that decides the outputs, as plain JSON values."""
        assert network.size_hw is not None  # `network` sets it
        entry = self.card.files.get(self.spec.precision)
        show = self.look.show
        return {
            **asdict(network),
            **asdict(self.look),
            "model": self.card.name,
            "sha256": entry.sha256 if entry else None,
            "thresholds": _thresholds(self.card, network.exit),
            "size_hw": list(network.size_hw),
            "show": list(show) if show is not None else None,
            "steady": "on" if self.steady else None,
            "temperature": self.card.temperature if self.card.temperature != 1 else None,  # as for cards without one
            "encoder": [CRF, PRESET, ENCODER_THREADS],
            "versions": {**versions(self.spec.engine)},
        }


def _thresholds(card: Card, exit: str | None) -> list[Any] | None:
    """The thresholds of a card that decide where frames or regions stop; None if there are none."""
    if exit == AUTO:
        return [each.threshold for each in card.exits]
    if exit is None or (found := card.find_regions(exit)) is None:
        return None
    stop, regions = found
    return [stop.name, regions.sure, *regions.tile_hw, stop.halo]


@cache
def versions(engine: str) -> dict[str, str | None]:
    """Versions of all packages that decide the outputs."""
    found: dict[str, str | None] = {"rtseg": rtseg.__version__}
    for package in ("av", "opencv-python", distribution(engine)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def picture_paths(job: Job) -> tuple[Path, ...]:
    """The pictures of a job in order; empty for a video."""
    if job.is_folder:
        return tuple(list_images(job.source))
    return (job.source,) if job.pictures else ()


def fingerprint(source: Path, pictures: Sequence[Path]) -> str:
    """A hash that changes when the input does: its files' names, sizes and modification times.

    Raises:
        InputError: the file does not exist.
    """
    digest = sha256()
    for path in pictures or [source]:
        try:
            lost = bool(pictures) and not path.exists()  # a broken link counts as a damaged picture
            stat = path.lstat() if lost else path.stat()
        except OSError as error:
            shown = without_password(str(path))  # it may be a mistyped address
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise InputError(f"cannot read {shown}: {error.strerror or error}") from error
            what = "no file matches" if is_pattern(shown) else "no such file:"
            raise InputError(f"{what} {shown}") from error
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def plan_input(
    job: Job, pictures: Sequence[Path], choice: Choice, threads: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and arrays for a new journal.

    Raises:
        InputError: the input cannot be read.
    """
    with open_source(job.path, threads=1) as source:
        size_hw, fps, aspect, notes = source.size_hw, source.fps, source.pixel_aspect, source.notes
    _check_stems(job, pictures)
    index = _index_pictures(len(pictures)) if pictures else index_video(job.source)
    if not index.frames:
        raise InputError(f"{job.source} holds no frame that can be decoded; it may be empty or damaged")
    facts = {
        "settings": choice.settings(choice.network(size_hw, threads)),
        "size_hw": size_hw,
        "fps": fps,
        "time_base": str(index.time_base),
        "frames": index.frames,
        "announced": index.announced,
        "start": index.start,
        "duration": index.duration,
        "aspect": str(aspect) if aspect else None,
        "sound": [asdict(way) for way in plan_sound(job.source)] if "overlay" in job.save and not pictures else [],
        "input_notes": [f"{job.source}: {note}" for note in dict.fromkeys((*index.notes, *notes))],
    }
    stops = _picture_stops(len(pictures)) if pictures else stops_of(index, fps or NOMINAL_FPS)
    arrays = {"stops": stops, "keys": index.keys}
    return facts, arrays if index.pts is None else {**arrays, "pts": index.pts}


def _check_stems(job: Job, pictures: Sequence[Path]) -> None:
    """Raises InputError if files named after two pictures would get the same name."""
    first: dict[str, Path] = {}
    for path in pictures if {"labelme", "frames"} & set(job.save) else ():
        if (other := first.setdefault(path.stem.casefold(), path)) is not path:
            raise InputError(f"{other} and {path} have the same name up to the suffix: rename or remove one")


def _index_pictures(count: int) -> VideoIndex:
    """An index of pictures, one per second."""
    return VideoIndex(Fraction(1), count, count, None, np.empty(0, np.int64), 0, 1)


def _picture_stops(count: int) -> np.ndarray:
    return np.array([*range(_PICTURES, count, _PICTURES), count], np.int64)


def segment_s(fps: float) -> float:
    """Seconds of a segment: 1.5, or less if the frames in flight last longer than the half second that is left."""
    return min(_SEGMENT_S, LOST_S - IN_FLIGHT / fps)


def stops_of(index: VideoIndex, fps: float) -> np.ndarray:
    """int64: the ends of a video's segments of `segment_s` and at least one frame; by frames without timestamps."""
    if index.pts is None:
        step = max(1, round(segment_s(fps) * fps))
        return np.array([*range(step, index.frames, step), ENDLESS], np.int64)
    stops = [0]
    length = round(segment_s(fps) / float(index.time_base))
    while stops[-1] < index.frames:
        stops.append(int(np.searchsorted(index.pts, index.pts[stops[-1]] + max(1, length))))
    return np.array(stops[1:], np.int64)
