"""Prints what `rtseg-cam` runs and, at the end, how it ran and which files it saved."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from rtseg.apps._console import ladder, running
from rtseg.core.files import write_json
from rtseg.core.labels import CAMVID11
from rtseg.core.sizes import format_size

if TYPE_CHECKING:
    from rtseg.apps.cam import CamOptions
    from rtseg.live.labeller import Labeller
    from rtseg.live.report import LoopReport
    from rtseg.live.views.view import DeskView
    from rtseg.sinks.video import VideoSink
    from rtseg.sources.base import Source


def introduce(console: Console, labeller: "Labeller", source: "Source") -> None:
    """Prints what actually runs, and the classes that the network knows."""
    from rtseg.live.policies import Deadline
    from rtseg.pictures.lettering import unwritten

    labels, policy = labeller.card.labels, labeller.policy
    what = ladder(policy) if isinstance(policy, Deadline) else running(labeller.card.name, labeller.info)
    console.print(
        f"{what}\nsource  {source.name}, {format_size(source.size_hw)}{f', {source.fps:.4g} fps' if source.fps else ''}"
    )
    for note in (*source.notes, unwritten(labels)):
        if note:
            console.print(f"note    {note}")
    if labels.names == CAMVID11.names:
        console.print("labels  street scenes seen from a car, 11 classes; indoors the labels are not useful")
    else:
        console.print(f"labels  {len(labels)} classes ({labels.name}): {', '.join(labels.names)}")


def report_run(console: Console, options: "CamOptions", report: "LoopReport", saved: list[Path]) -> None:
    """Prints the summary and writes the JSON report."""
    console.print(report.summary())
    for path in saved:
        console.print(f"saved   {path}")
    if options.json:
        from rtseg.live.environment import environment

        told = {**report.to_json(), "saved": [str(path) for path in saved]}
        write_json(options.json, {**told, "environment": environment()})
        console.print(f"report  {options.json}")


def saved_files(viewer: "DeskView | None", recording: "VideoSink | None") -> list[Path]:
    """The files that were created."""
    if viewer:
        return viewer.desk.saved
    return [recording.path] if recording and recording.saved else []
