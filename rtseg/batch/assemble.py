"""Turns finished segments into finished outputs."""

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtseg.batch.join import join_segments
from rtseg.batch.layout import final_names, move_into_place, remove_numbered, remove_partial
from rtseg.batch.made import FACTS, note_made
from rtseg.batch.segments import STRIP_HEIGHT
from rtseg.batch.sound import Sound
from rtseg.batch.task import SegmentDone
from rtseg.batch.work import Work
from rtseg.core.errors import InputError, OutputError
from rtseg.core.files import atomic_path, sync, write_json
from rtseg.core.labels import LabelSet
from rtseg.sinks.annotations import join_coco, join_cvat
from rtseg.sinks.base import write_picture
from rtseg.sinks.video import reason_of_write
from rtseg.sources.images import read_image


def assemble(work: Work, labels: LabelSet, about: dict[str, Any]) -> list[str]:
    """Makes the outputs of an input whose segments are all done, gives them their names and removes everything else.

    It may be interrupted at any moment and called again.

    Args:
        work: the input.
        labels: the network's classes.
        about: extra entries for the summary.

    Returns:
        Notes for the user.

    Raises:
        InputError: no frame could be decoded.
        OutputError: an output cannot be written.
    """
    notes: list[str] = work.journal.fact("notes") or []
    if work.journal.fact("state") != "assembled":
        if not any(len(done.indices) for done in work.journal.segments()):
            raise InputError(f"{work.job.source} holds no frame that can be decoded; it may be damaged")
        notes = _make(work, labels, about)
        for kind in work.job.save:
            if (made := work.job.partial / work.job.output_name(kind)).is_file():
                sync(made)  # before the segments that it is made of are removed
        work.journal.state(state="assembled", notes=notes)
    note_made(work.job, {name: work.journal.fact(name) for name in FACTS})
    names = _file_names(work)
    for kind in work.job.save:
        made = work.job.partial / work.job.output_name(kind)
        if made.exists():
            try:
                move_into_place(made, work.job.target(kind), names)
            except OSError as error:
                raise OutputError(f"cannot write {work.job.target(kind)}: {reason_of_write(error)}") from error
    work.journal.close()
    remove_partial(work.job.partial, ())
    return notes


def _make(work: Work, labels: LabelSet, about: dict[str, Any]) -> list[str]:
    """Writes, in the folder of unfinished work, the outputs that do not have their final names yet."""
    save, layout = work.job.save, work.layout
    notes: list[str] = []
    parts = [(done.segment, done.ticks) for done in work.journal.segments() if len(done.indices)]

    names = _file_names(work)
    for kind in {"labels", "overlay", "labelme", "frames"} & set(save):
        folder = work.job.partial / work.job.output_name(kind)
        if folder.is_dir():  # it also has files of passes that were interrupted or not trusted
            remove_numbered(folder, keep=names)

    def path(kind: str) -> Path:
        return work.job.partial / work.job.output_name(kind)

    if "overlay" in save and not work.job.pictures:
        sound = Sound(work.job.source, work.start_s, work.sound)
        overlays = [(layout.overlay(segment), ticks) for segment, ticks in parts]
        notes += join_segments(overlays, path("overlay"), work.time_base, work.duration, sound)
    if "label-video" in save:
        maps = [(layout.label_video(segment), ticks) for segment, ticks in parts]
        join_segments(maps, path("label-video"), work.time_base, work.duration)
    segments = [segment for segment, _ in parts]
    if "coco" in save:
        join_coco(path("coco"), [layout.coco(segment) for segment in segments], labels)
    if "cvat" in save:
        join_cvat(path("cvat"), [layout.cvat(segment) for segment in segments], labels)
    if "areas" in save:
        _write_areas(path("areas"), work, labels)
    if "strip" in save:
        _write_strip(path("strip"), [layout.strip(index) for index in work.strip])
    if "summary" in save:
        write_json(path("summary"), {**about, **_summary(work, labels), "notes": notes})
    return notes


def _file_names(work: Work) -> dict[str, str]:
    """For the frames of the segments, if each is a file: name while it is made -> name in the output."""
    names: dict[str, str] = {}
    for done in work.journal.segments():
        for index in done.indices.tolist():
            names |= final_names(index, work.pictures)
    return names


def _rows(work: Work, classes: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(index, ticks, share of each class) for every frame."""
    done: SegmentDone
    for done in work.journal.segments():
        for index, ticks, areas in zip(done.indices.tolist(), done.ticks.tolist(), done.areas, strict=True):
            yield index, ticks, areas[:classes] / max(1, areas.sum())


def _write_areas(path: Path, work: Work, labels: LabelSet) -> None:
    """One row per frame: its index, its time since the first frame, and each class's share of the picture."""
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["frame", "time_s", *labels.names])
        for index, ticks, shares in _rows(work, len(labels)):
            time_s = float(ticks * work.time_base)
            rows.writerow([index, f"{time_s:.6f}", *(f"{share:.6f}" for share in shares.tolist())])


def _summary(work: Work, labels: LabelSet) -> dict[str, Any]:
    """Frames, duration, and for each class its mean and largest share, and in how many frames it occurs."""
    count, total = 0, np.zeros(len(labels))
    largest, present = np.zeros(len(labels)), np.zeros(len(labels), np.int64)
    end = 0
    for _, ticks, shares in _rows(work, len(labels)):
        count, total, end = count + 1, total + shares, ticks + work.duration
        largest, present = np.maximum(largest, shares), present + (shares > 0)
    shares = total / max(1, count)
    return {
        "frames": count,
        "corrupt": max(0, work.frames - count),
        "size": list(work.size_hw),
        "fps": work.fps,
        "duration_s": round(float(end * work.time_base), 6),
        "settings": work.journal.fact("settings"),
        "classes": {
            name: {
                "mean_area": round(float(shares[place]), 6),
                "largest_area": round(float(largest[place]), 6),
                "frames": int(present[place]),
            }
            for place, name in enumerate(labels.names)
        },
    }


def _write_strip(path: Path, parts: list[Path]) -> None:
    """Pictures side by side; frames that could not be decoded are left out."""
    pictures = [read_image(part) for part in parts if part.exists()]
    gap = np.full((STRIP_HEIGHT, 4, 3), 255, np.uint8)
    row = list(chain.from_iterable((picture, gap) for picture in pictures))[:-1]
    write_picture(path, cv2.hconcat(row) if row else gap)
