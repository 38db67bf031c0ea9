"""Writes the segments of a task: each is made in its pass's folder and moved into place when it is complete."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from rtseg.batch.layout import Layout, picture_name
from rtseg.batch.task import CRF, ENCODER_THREADS, PRESET, SegmentDone, Task
from rtseg.core.errors import OutputError
from rtseg.core.files import sync
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.sinks.annotations import CocoLines, CvatLines, write_labelme
from rtseg.sinks.base import Sink, write_picture
from rtseg.sinks.labels import LabelVideoSink
from rtseg.sinks.video import NOMINAL_FPS, VideoSink, reason_of_write
from rtseg.sources.span import SpanSource

STRIP_HEIGHT, _STRIP_WIDTH = 180, 720
_EXACT = 1 << 24  # up to so many pixels, float32 counts exactly


def class_areas(labels: np.ndarray, classes: int) -> np.ndarray:
    """uint8 (H, W) -> int64 (classes,): number of pixels of each class; other ids are not counted."""
    rows = max(1, _EXACT // labels.shape[1])
    bands = [labels[top : top + rows] for top in range(0, labels.shape[0], rows)]
    counts = [cv2.calcHist([band], [0], None, [256], [0, 256]) for band in bands]
    areas: np.ndarray = np.sum(counts, axis=0, dtype=np.int64).ravel()[:classes]
    return areas


def _for_strip(picture: np.ndarray) -> np.ndarray:
    """uint8 BGR (H, W, 3) -> (STRIP_HEIGHT, at most _STRIP_WIDTH, 3); a wide picture is centred on black."""
    height, width = picture.shape[:2]
    scale = min(STRIP_HEIGHT / height, _STRIP_WIDTH / width)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
    above = (STRIP_HEIGHT - small.shape[0]) // 2
    return cv2.copyMakeBorder(small, above, STRIP_HEIGHT - small.shape[0] - above, 0, 0, cv2.BORDER_CONSTANT)


def _seen_from(path: Path, folder: Path) -> Path:
    """A path relative to a folder; unchanged if there is no relative one, as between two Windows drives."""
    try:
        return Path(os.path.relpath(path, folder))
    except ValueError:
        return path.absolute()


class SegmentSink(Sink):
    """The loop's sink for a whole task. A segment is announced once all its files have their names.

    `finish` announces the last segment, since only the caller of the loop knows that it ended well.

    Args:
        task: what to make.
        source: where the frames come from.
        classes: the network's classes.
        announce: takes each finished segment; called in the writing thread.
    """

    def __init__(
        self, task: Task, source: SpanSource, classes: LabelSet, announce: Callable[[SegmentDone], None]
    ) -> None:
        self._task = task
        self._source = source
        self._classes = classes
        self._announce = announce
        self._layout = Layout(task.partial, task.name, task.single)
        self._work = self._layout.work(uuid4().hex)
        self._left = list(task.segments)
        self._sinks: list[Sink] = []
        self._places: list[tuple[Path, Path]] = []  # where a picture was made, and its final place
        self._wholes: list[tuple[Path, Path]] = []  # likewise for outputs with one file per segment
        self._indices: list[int] = []
        self._ticks: list[int] = []
        self._areas: list[np.ndarray] = []
        self._new_folders()

    def _new_folders(self) -> None:
        folders = [self._work, self._layout.segments]
        for kind, place in (("labels", self._layout.label), ("labelme", self._layout.labelme),
                            ("frames", self._layout.frame), ("confidence", self._layout.confidence)):  # fmt: skip
            if kind in self._task.save:
                folders.append(place(0).parent)
        if self._task.pictures and "overlay" in self._task.save:
            folders.append(self._layout.picture(0).parent)
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error) from error

    def write_sure(self, frame: Frame, labels: np.ndarray, picture: np.ndarray, confidence: np.ndarray | None) -> None:
        if frame.index < self._task.span.first:  # only there for its influence on the labels of later frames
            return
        self.write(frame, labels, picture)
        if "confidence" in self._task.save:
            assert confidence is not None  # the worker's labeller provides it
            self._write_picture(self._layout.confidence(frame.index), confidence)

    def write(self, frame: Frame, labels: np.ndarray, picture: np.ndarray) -> None:
        while frame.index >= self._left[0].stop:
            self._publish()
        if not self._indices:
            self._open(frame)
        if "labels" in self._task.save:
            self._write_picture(self._layout.label(frame.index), labels)
        if self._task.pictures and "overlay" in self._task.save:
            self._write_picture(self._layout.picture(frame.index), picture)
        if "frames" in self._task.save:
            self._write_picture(self._layout.frame(frame.index), frame.image)
        if "labelme" in self._task.save:
            self._write_labelme(frame.index, labels)
        if frame.index in self._task.strip:
            self._write_picture(self._layout.strip(frame.index), _for_strip(picture))
        for sink in self._sinks:
            sink.write(frame, labels, picture)
        self._indices.append(frame.index)
        self._ticks.append(round(frame.timestamp_s / float(self._task.span.time_base)))
        if {"areas", "summary"} & set(self._task.save):
            self._areas.append(class_areas(labels, len(self._classes)))
        self.frames += 1

    def _open(self, frame: Frame) -> None:
        """Opens the files of the segment that begins with `frame`."""
        task, segment, span = self._task, self._left[0], self._task.span
        fps = span.fps or NOMINAL_FPS
        if "overlay" in task.save and not task.pictures:
            place = self._layout.overlay(segment)
            made = self._work / place.name
            self._sinks.append(
                VideoSink(
                    made, span.size_hw, fps, crf=CRF, preset=PRESET, threads=ENCODER_THREADS,
                    time_base=span.time_base, joinable=True, pixel_aspect=task.aspect,
                )
            )  # fmt: skip
            self._wholes.append((made, place))
        if "label-video" in task.save:
            place = self._layout.label_video(segment)
            made = self._work / place.name
            self._sinks.append(LabelVideoSink(made, span.size_hw, fps, span.time_base))
            self._wholes.append((made, place))
        for kind, lines, of_segment in (("coco", CocoLines, self._layout.coco), ("cvat", CvatLines, self._layout.cvat)):
            if kind in task.save:
                place = of_segment(segment)
                made = self._work / place.name
                self._sinks.append(lines(made, self._classes, lambda index: picture_name(index, task.pictures)))
                self._wholes.append((made, place))

    def _write_picture(self, place: Path, picture: np.ndarray) -> None:
        made = self._made(place)
        write_picture(made, picture)
        self._places.append((made, place))

    def _write_labelme(self, index: int, labels: np.ndarray) -> None:
        """Writes a LabelMe file that refers to the original picture, or to the video's frame as `frames` saves it."""
        task, place = self._task, self._layout.labelme(index)
        picture = Path("..", self._layout.frame(0).parent.name, picture_name(index))
        if task.pictures:
            picture = _seen_from(task.pictures[index], task.partial.with_name(place.parent.name))
        made = self._made(place)
        write_labelme(made, picture.as_posix(), labels, self._classes)
        self._places.append((made, place))

    def _made(self, place: Path) -> Path:
        """Where a file is made before it moves to its place."""
        return self._work / f"{place.parent.name}_{place.name}"

    def _publish(self) -> None:
        """Moves the segment's files into place and announces it."""
        segment = self._left[0]
        sinks, self._sinks = self._sinks, []
        for sink in sinks:
            sink.close()
        for made, _ in self._wholes:
            sync(made)
        size = 0
        try:
            for made, place in (*self._wholes, *self._places):
                size += made.stat().st_size
                os.replace(made, place)
        except OSError as error:
            raise self._error(error) from error
        seams = self._source.seams
        areas = np.stack(self._areas) if self._areas else np.empty((len(self._indices), 0), np.int64)
        self._announce(
            SegmentDone(
                self._task.job, segment, np.array(self._indices, np.int64), np.array(self._ticks, np.int64), areas,
                before=seams.get(segment.first - 1), last=seams.get(segment.stop - 1), size=size,
            )
        )  # fmt: skip
        seams.pop(segment.first - 1, None)
        del self._left[0]
        self._wholes, self._places = [], []
        self._indices, self._ticks, self._areas = [], [], []

    def close(self, complete: bool = True) -> None:
        """Closes open files; segments not announced by then are announced by `finish` or lost."""
        if not complete:
            sinks, self._sinks = self._sinks, []
            for sink in sinks:
                sink.close(complete=False)

    def finish(self) -> None:
        """Announces what is complete: every segment that the source has delivered to its end."""
        while self._left and self._left[0].stop <= self._source.reached:
            self._publish()

    def discard(self) -> None:
        """Removes files that are not in their place; called at the end of every pass."""
        self.close(complete=False)
        shutil.rmtree(self._work, ignore_errors=True)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write in {self._task.partial}: {reason_of_write(error)}; choose another --output")
