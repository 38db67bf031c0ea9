"""Memory of `rtseg-video` over a two-hour video, made by looping a short one and labelled as fast as it goes.

    python benchmarks/batch_soak.py --json benchmarks/results/batch_soak.json

The network's input is small, since this is about memory and not about labels.
"""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import av
import psutil
from batch import make_videos
from cyclopts import App
from street_video import FPS

from rtseg.apps._console import run
from rtseg.batch.join import join_segments
from rtseg.core.files import write_json
from rtseg.core.sizes import parse_size
from rtseg.live.environment import environment
from rtseg.sinks.video import VideoSink
from rtseg.sources.open import open_source

app = App(help=__doc__)
EVERY_S = 1.0


def loop_video(clip: Path, target: Path, hours: float) -> int:
    """Writes the clip repeatedly, without re-encoding it; returns the number of frames."""
    part = clip.with_name("part.mp4")
    tick = Fraction(1, 30000)
    with open_source(clip) as source, VideoSink(part, source.size_hw, FPS, time_base=tick, joinable=True) as sink:
        for frame in source:
            sink.write(frame, frame.image[..., 0], frame.image)
    length = round(sink.frames / FPS / tick)
    times = round(hours * 3600 * FPS / sink.frames)
    join_segments([(part, number * length) for number in range(times)], target, tick, 1000)
    return times * sink.frames


def watched(command: list[str]) -> tuple[list[int], float]:
    """Runs a command; returns its memory in bytes, once a second, and its run time in seconds."""
    samples, start = [], perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            samples.append(psutil.Process(process.pid).memory_info().rss)
            process.wait(EVERY_S)
        except (psutil.NoSuchProcess, subprocess.TimeoutExpired):
            continue
    if process.returncode:
        raise SystemExit(f"rtseg-video ended with {process.returncode}")
    return samples, perf_counter() - start


@app.default
def main(
    *,
    hours: float = 2.0,
    video: str = "120x160",
    model: str = "icnet",
    size: str = "32x64",
    save: str = "overlay,label-video,areas,strip,summary",
    json: Path | None = None,
) -> None:
    """Labels a long video and watches the memory.

    Args:
        hours: Length of the video.
        video: The video's size.
        model: A network.
        size: The network's input.
        save: What is saved.
        json: Write the figures to this file.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        (clip,) = make_videos(folder, parse_size(video), 1, 300)
        frames = loop_video(clip, folder / "long.mp4", hours)
        command = [sys.executable, "-m", "rtseg.apps.video", str(folder / "long.mp4"), "--output", str(folder / "out"),
                   "--model", model, "--size", size, "--save", save, "--jobs", "1"]  # fmt: skip
        samples, seconds = watched(command)
        with av.open(str(folder / "out" / "long.mp4")) as container:
            written = sum(1 for packet in container.demux(video=0) if packet.size)
    assert written == frames, (written, frames)
    quarter = len(samples) // 4
    early, late = sorted(samples[quarter : 2 * quarter]), sorted(samples[-quarter:])
    result = {
        "hours_of_video": hours,
        "frames": frames,
        "seconds": round(seconds, 1),
        "samples": len(samples),
        "median_mib": {
            "second_quarter": round(early[len(early) // 2] / 2**20, 1),
            "last_quarter": round(late[len(late) // 2] / 2**20, 1),
        },
        "largest_mib": round(max(samples) / 2**20, 1),
        "every_minute_mib": [round(sample / 2**20, 1) for sample in samples[:: round(60 / EVERY_S)]],
    }
    print(result)
    if json is not None:
        write_json(json, {"environment": environment(), "result": result})


if __name__ == "__main__":
    run(app)
