"""What a new user gets: the default command, the same in FP32, and the script that most people would write instead.

    python benchmarks/default.py --json benchmarks/results/default.json

Videos of procedural street scenes are made first, 256x512 and 1024x2048. On each, every round runs all three, one after
the other: decoded, labelled and drawn, with no window and nothing written. The median over the rounds is reported, and
how many times faster the default is in the median of the rounds. The plain script reads with OpenCV, runs ONNX Runtime
with its defaults on the network's FP32 file at the same input size, resizes the logits with `cv2.resize`, takes
the argmax and blends.
"""

import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import onnxruntime
from cyclopts import App, Parameter
from street_video import street_video

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import parse_size
from rtseg.core.threads import thread_budget
from rtseg.core.zoo import resolve, shipped
from rtseg.live.bench import time_ahead
from rtseg.live.environment import environment
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.policies import policy_for
from rtseg.live.segmenter import Segmenter
from rtseg.live.spec import default_size
from rtseg.pictures.resize import limit_threads
from rtseg.sinks.base import NullSink
from rtseg.sources.open import open_source

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))


def loop(model: str, precision: str, video: Path, engine: str = "auto") -> dict[str, Any]:
    """The same as `rtseg-cam --no-window` on a file."""
    with Segmenter(RunSpec(model, engine=engine, precision=precision)) as segmenter:
        source = open_source(str(video), threads=segmenter.budget.codec)
        info = segmenter.prepare(source.size_hw, policy_for(source).most_in_flight)
        pictures = [np.full((*source.size_hw, 3), value, np.uint8) for value in range(4)]
        engine_fps = time_ahead(segmenter, pictures, 40, 4)
        painter = Painter()
        painter.prepare(segmenter.labels)
        report = Loop(source, segmenter, draw=painter, sinks=[NullSink()]).run()
    return {"engine": info.engine, "precision": info.precision, "size": list(info.size_hw),
            "engine_fps": engine_fps, "fps": report.fps}  # fmt: skip


def plain_fps(model: str, video: Path) -> float:
    artifact = resolve(model)
    palette = artifact.card.labels.palette_bgr
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # its warnings about the graph are irrelevant here
    session = onnxruntime.InferenceSession(str(artifact.file("fp32")), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    reader = cv2.VideoCapture(str(video))
    start, frames = perf_counter(), 0
    while True:
        read, image = reader.read()
        if not read:
            return frames / (perf_counter() - start)
        frame_hw = (image.shape[0], image.shape[1])
        height, width = default_size(artifact.card, frame_hw)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        (logits,) = session.run(None, {name: small[None]})
        planes = np.stack([cv2.resize(plane, frame_hw[::-1]) for plane in logits[0]])
        cv2.addWeighted(image, 0.5, palette[np.argmax(planes, axis=0)], 0.5, 0)
        frames += 1


def measure(model: str, video: Path, rounds: int) -> dict[str, Any]:
    auto, fp32, plain = [], [], []
    for _ in range(rounds):
        auto.append(loop(model, "auto", video))
        fp32.append(loop(model, "fp32", video))
        plain.append(plain_fps(model, video))
    fps = [result["fps"] for result in auto]
    return {
        "model": model,
        **{key: auto[0][key] for key in ("engine", "precision", "size")},
        "engine_fps": round(statistics.median(result["engine_fps"] for result in auto), 2),
        "fps": round(statistics.median(fps), 2),
        "share": round(statistics.median(result["fps"] / result["engine_fps"] for result in auto), 3),
        "fp32_engine": fp32[0]["engine"],
        "fp32_fps": round(statistics.median(result["fps"] for result in fp32), 2),
        "plain_fps": round(statistics.median(plain), 2),
        "faster_than_plain_by": round(statistics.median(a / b for a, b in zip(fps, plain, strict=True)), 2),
    }


@app.default
def main(
    *,
    model: tuple[str, ...] = (),
    source: tuple[str, ...] = ("256x512", "1024x2048"),
    frames: int = 120,
    rounds: int = 3,
    json: Path | None = None,
) -> None:
    """Measures the three.

    Args:
        model: Networks; by default those that ship.
        source: Sizes of the videos.
        frames: Of each video.
        rounds: How often each is timed.
        json: Write the figures to this file.
    """
    limit_threads(thread_budget().opencv)
    results = []
    for source_hw in [parse_size(text) for text in source]:  # all are checked first
        with street_video(source_hw, frames) as video:
            for name in model or shipped():
                found = {**measure(name, video, rounds), "source": list(source_hw)}
                results.append(found)
                print(f"{video.stem} {name} {found['precision']} on {found['engine']}: {found['fps']:.1f} fps, in fp32 "
                      f"{found['fp32_fps']:.1f}, plain script {found['plain_fps']:.1f}")  # fmt: skip
    if json is not None:
        about = {"rounds": rounds, "frames": frames}
        write_json(json, {"environment": environment(), **about, "results": results})


if __name__ == "__main__":
    run(app)
