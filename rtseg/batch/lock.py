"""Only one batch at a time in an output folder."""

from pathlib import Path

from rtseg.sinks.lock import Lock

_NAME = ".rtseg-video.lock"


def output_lock(folder: Path) -> Lock:
    """Locks the folder; raises OutputError if another process holds it or it cannot be written."""
    return Lock(folder / _NAME, f"another rtseg-video is writing to {folder}: wait for it, or choose another --output")
