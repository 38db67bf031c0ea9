"""Kills a batch at random moments, and workers of a Ray cluster, and compares with an uninterrupted run, byte by byte.

    python benchmarks/batch_kills.py --json benchmarks/results/batch_kills.json

A run is killed (SIGKILL) at a seeded moment, started again, killed again, and so on, until the video is done; then the
next video's turn comes, until there were enough kills. What a kill costs is read from the disk: the frames that lie in
the folder of the unfinished segment, and those that the loop may hold besides.
"""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

import psutil
from batch import make_videos
from cyclopts import App, Parameter
from street_video import FPS

from rtseg.apps._console import run
from rtseg.batch.plan import IN_FLIGHT
from rtseg.core.files import write_json
from rtseg.core.sizes import parse_size
from rtseg.live.environment import environment
from rtseg.sources.open import open_source

app = App(help=__doc__)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What is killed, and how often.

    Attributes:
        model: A network.
        size: The network's input.
        video: The videos' size.
        videos: How many there are.
        frames: Of each video.
        kills: How many at least.
        longest: Seconds from a new segment to the kill, at most.
        ray: Videos labelled on Ray while its workers are killed.
        seed: Of the moments.
        json: Write the figures to this file.
    """

    model: str = "icnet"
    size: str = "128x160"
    video: str = "360x480"
    videos: int = 12
    frames: int = 600
    kills: int = 50
    longest: float = 1.5
    ray: int = 3
    seed: int = 0
    json: Path | None = None


def start(video: Path, out: Path, options: Options, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rtseg.apps.video", str(video), "--output", str(out), "--model", options.model,
               "--size", options.size, "--save", "overlay,labels,areas", "--threads", "1", "--json",
               str(out / "report.json"), *more]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors.decode())


def hashes(out: Path) -> dict[str, str]:
    """File -> SHA-256, of everything but the report."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "report.json")
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in files}


def kill_once(video: Path, out: Path, options: Options, chance: random.Random) -> dict[str, float] | None:
    """Starts a run and kills it at a random moment after the first new segment; None if it ended before that."""
    segments = out / f"{video.stem}.partial" / "segments"
    before = len(list(segments.glob("*.mp4")))
    process = start(video, out, options)
    while process.poll() is None and len(list(segments.glob("*.mp4"))) <= before:
        sleep(0.002)
    moment = perf_counter() + chance.uniform(0, options.longest)
    while process.poll() is None and perf_counter() < moment:
        sleep(0.001)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    if process.returncode == 0:
        return None
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(errors.decode())
    written = len(list(segments.parent.glob("work-*/*_[0-9]*.png")))
    return {"written_s": written / FPS, "at_most_s": (written + IN_FLIGHT) / FPS}


def kills(videos: list[Path], folder: Path, options: Options) -> dict[str, Any]:
    chance = random.Random(options.seed)
    lost: list[dict[str, float]] = []
    compared = 0
    for video in videos:
        whole, out = folder / f"{video.stem}_whole", folder / f"{video.stem}_killed"
        finish(start(video, whole, options))
        while len(lost) < options.kills and (cost := kill_once(video, out, options, chance)) is not None:
            lost.append(cost)
        finish(start(video, out, options))
        differing = {name for name, _ in hashes(out).items() ^ hashes(whole).items()}
        assert not differing, f"{video.stem}: {sorted(differing)} differ"
        with open_source(out / f"{video.stem}.mp4") as source:
            assert sum(1 for _ in source) == options.frames
        compared += len(hashes(out))
        if len(lost) >= options.kills:
            break
    return {
        "kills": len(lost),
        "files_compared": compared,
        "different": 0,
        "lost_s": {name: round(max(cost[name] for cost in lost), 3) for name in ("written_s", "at_most_s")},
    }


def ray_losses(videos: list[Path], folder: Path, options: Options) -> dict[str, Any]:
    """Kills every Ray worker once in mid-job, for each video."""
    killed = compared = 0
    for number, video in enumerate(videos[: options.ray]):
        whole, out = folder / f"{video.stem}_whole", folder / f"{video.stem}_ray"
        if not whole.exists():
            finish(start(video, whole, options))
        process = start(video, out, options, "--ray", "local", "--jobs", "2")
        segments = out / f"{video.stem}.partial" / "segments"
        while process.poll() is None and len(list(segments.glob("*.mp4"))) < 2 + number:
            sleep(0.01)
        for child in psutil.Process(process.pid).children(recursive=True):
            if child.cmdline() and child.cmdline()[0].startswith("ray::Actor"):
                os.kill(child.pid, signal.SIGKILL)
                killed += 1
        finish(process)
        differing = {name for name, _ in hashes(out).items() ^ hashes(whole).items()}
        assert not differing, f"{video.stem}: {sorted(differing)} differ"
        (entry,) = json.loads((out / "report.json").read_text())["inputs"]
        assert entry["frames"] == options.frames
        compared += len(hashes(out))
    return {"workers_killed": killed, "files_compared": compared, "different": 0}


@app.default
def main(options: Options | None = None) -> None:
    options = options or Options()
    with TemporaryDirectory() as name:
        folder = Path(name)
        videos = make_videos(folder, parse_size(options.video), options.videos, options.frames)
        results = {"kills": kills(videos, folder, options)}
        if options.ray:
            results["ray"] = ray_losses(videos, folder, options)
    print(json.dumps(results, indent=2))
    if options.json:
        arguments = {name: value for name, value in asdict(options).items() if name != "json"}
        write_json(options.json, {"environment": environment(), "arguments": arguments, "results": results})


if __name__ == "__main__":
    run(app)
