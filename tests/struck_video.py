"""`rtseg-video` that is killed in the middle, at the same moment on every machine.

    python -m struck_video WHOM SEGMENTS EVENTS ARGUMENTS

WHOM, 'self' or Ray's 'actors', is killed by SIGKILL after the given number of segments that this run made and then of
events. The process ids of its children are in the file that STRUCK_CHILDREN names.
"""

import os
import signal
import sys
from pathlib import Path

import psutil

from rtseg.apps.video import main
from rtseg.batch.run import Batch
from rtseg.batch.task import Event, SegmentDone


def strike(whom: str) -> None:
    family = psutil.Process().children(recursive=True)
    if note := os.environ.get("STRUCK_CHILDREN"):
        Path(note).write_text(" ".join(str(child.pid) for child in family))
    if whom == "self":
        os.kill(os.getpid(), signal.SIGKILL)
    for child in family:
        if "".join(child.cmdline()[:1]).startswith("ray::Actor"):
            child.kill()


if __name__ == "__main__":
    whom, segments, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    heard = Batch._on

    def listen(batch: Batch, event: Event) -> None:
        global segments, events
        if segments > 0:
            segments -= isinstance(event, SegmentDone)
        elif segments == 0:
            events -= 1
        if segments == 0 and events <= 0:
            segments = -1  # once
            strike(whom)
        heard(batch, event)

    Batch._on = listen  # type: ignore[method-assign]
    sys.argv[1:4] = []
    main()
