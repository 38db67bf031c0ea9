"""Videos for the benchmarks: procedural street scenes, H.264."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from rtseg import scenes
from rtseg.core.frame import Frame
from rtseg.core.sizes import Size, format_size
from rtseg.sinks.video import VideoSink

FPS = 30.0


def make_video(path: Path, size_hw: Size, frames: int, seed: int = 1) -> Path:
    scene = scenes.StreetScene(size_hw, seed=seed, fps=FPS)
    with VideoSink(path, size_hw, FPS) as sink:
        for index in range(frames):
            image, labels = scene.render(index)
            sink.write(Frame(image, index, index / FPS, perf_counter()), labels, image)
    return path


@contextmanager
def street_video(size_hw: Size, frames: int) -> Iterator[Path]:
    """A temporary video for the duration of the block: HEIGHTxWIDTH.mp4 in its own folder."""
    with TemporaryDirectory() as folder:
        yield make_video(Path(folder, f"{format_size(size_hw)}.mp4"), size_hw, frames)
