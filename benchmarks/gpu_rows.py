"""The measurements of `gpu.py`, one function per kind of row; each returns plain JSON values."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from gpu_machine import median_s

from rtseg.core.errors import ParityError, RtsegError
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size, nearest_multiple
from rtseg.core.threads import thread_budget
from rtseg.core.timing import Durations
from rtseg.core.zoo import Artifact, resolve
from rtseg.engines import Engine, EngineOptions, load_engine, missing

PICTURES = 4
KEPT = 4  # convolutions that stay FP16 if INT8 does not pass the parity gate with all of them


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        runs: timed runs per figure.
        warm_up: runs before them.
        frames: frames of the video for the whole loop.
        root: CamVid's folder; None skips the mIoU.
    """

    runs: int = 200
    warm_up: int = 20
    frames: int = 150
    root: Path | None = None


def smoke(plan: Plan) -> dict[str, Any]:
    """Whether TensorRT builds and runs anything here: one convolution, in a process that may crash."""
    start = perf_counter()
    child = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("gpu_smoke.py"))], capture_output=True, text=True, timeout=600
    )
    said = (child.stdout + child.stderr).strip().splitlines()
    result = {"exit_code": child.returncode, "seconds": round(perf_counter() - start, 1), "said": said[-12:]}
    if child.returncode != 0:
        raise RtsegError(f"TensorRT does not build one convolution here: {json.dumps(result)}")
    return result


def pictures(size_hw: Size) -> list[np.ndarray]:
    """Different street scenes."""
    from rtseg.scenes import StreetScene

    return [StreetScene(size_hw, seed=seed).render(10)[0] for seed in range(PICTURES)]


def engine_row(engine_name: str, model: str, precision: str, size_hw: Size, plan: Plan) -> dict[str, Any]:
    """An engine alone, from picture to labels in host memory, and its distance from the GPU's ceilings."""
    if engine_name != "tensorrt" and (reason := lacking(engine_name)) is not None:
        return {"status": "absent", "reason": reason}
    artifact = resolve(model)
    options = EngineOptions(size_hw, precision, thread_budget().engine)
    start, kept = perf_counter(), []
    try:
        engine = load_engine(engine_name, artifact, options)
    except ParityError:
        if precision != "int8":
            raise
        kept = keep_sensitive(artifact, size_hw)
        engine = load_engine(engine_name, artifact, options)
    with engine:
        images = pictures(size_hw)
        engine.labels(images[0], size_hw)
        row: dict[str, Any] = {
            "runtime": engine.info.runtime,
            "device": engine.info.device,
            "load_s": round(perf_counter() - start, 2),
            "kept_fp16": kept,
            "labels_ms": latency(engine, images, plan),
            "throughput_fps": throughput(engine, images, plan),
        }
        if hasattr(engine, "time_network"):
            network = durations(engine.time_network(images[0], plan.warm_up + plan.runs)[plan.warm_up :])
            row["network_ms"] = network.summary_ms()
            row["network_fps"] = round(1e3 / network.percentile_ms(50), 1)
            row["work"] = work(artifact, size_hw, 2 if precision != "fp32" else 4)
        if hasattr(engine, "time_labels"):
            row["label_kernel_ms"] = durations(engine.time_labels(size_hw, plan.runs)).summary_ms()
        if hasattr(engine, "report"):
            row |= {key: engine.report[key] for key in ("agreement", "audit", "tensorrt")}
    if engine_name == "torch-cuda":
        row["label_torch_ms"] = torch_labels(artifact, precision, size_hw, plan.runs)
    return row


def keep_sensitive(artifact: Artifact, size_hw: Size) -> list[str]:
    """Like `rtseg compile --keep-worst 4`: from now on the most sensitive convolutions stay FP16 under INT8."""
    from rtseg.engines.cuda.memory import Device
    from rtseg.engines.tensorrt.cache import BuildOptions, EngineCache
    from rtseg.engines.tensorrt.engine import plan_key
    from rtseg.engines.tensorrt.gate import street_frames
    from rtseg.engines.tensorrt.sensitivity import measure_sensitivity

    card = artifact.card
    images = street_frames(nearest_multiple(card.train_size, card.size_multiple), count=1)
    found = measure_sensitivity(artifact.file("fp32"), card.activation_ranges, images)
    names = [entry.convolution for entry in found[:KEPT]]
    EngineCache().prefer(plan_key(card, "int8", size_hw, Device().info, BuildOptions(keep=tuple(names))))
    return names


def lacking(engine_name: str) -> str | None:
    """Why a comparison engine cannot run here, if the reason is not a fault of the machine."""
    if (reason := missing(engine_name)) is not None:
        return reason
    if engine_name == "onnxruntime-cuda":
        import onnxruntime as ort

        if "CUDAExecutionProvider" not in ort.get_available_providers():
            return "onnxruntime is the CPU build"
    return None


def durations(seconds: list[float]) -> Durations:
    result = Durations()
    for value in seconds:
        result.add(value)
    return result


def latency(engine: Engine, images: list[np.ndarray], plan: Plan) -> dict[str, float | int]:
    """One picture at a time, from host memory to labels in host memory; `labels` returns when they are there."""
    times, out = Durations(), np.empty(engine.info.size_hw, np.uint8)
    for run in range(-plan.warm_up, plan.runs):
        image = images[run % len(images)]
        if run < 0:
            engine.labels(image, engine.info.size_hw, out)
            continue
        with times.measure():
            engine.labels(image, engine.info.size_hw, out)
    return times.summary_ms()


def throughput(engine: Engine, images: list[np.ndarray], plan: Plan) -> float:
    """Pictures per second, with as many in flight as the engine takes, from the first to the last result."""
    out, size_hw = np.empty(engine.info.size_hw, np.uint8), engine.info.size_hw
    ahead = engine.info.in_flight
    for index in range(ahead):
        engine.submit(images[index % len(images)], size_hw)
    engine.collect(out)
    start = perf_counter()
    for index in range(plan.runs):
        engine.submit(images[index % len(images)], size_hw)
        engine.collect(out)
    seconds = perf_counter() - start
    for _ in range(ahead - 1):
        engine.collect(out)
    return round(plan.runs / seconds, 1)


def work(artifact: Artifact, size_hw: Size, bytes_each: int) -> dict[str, float]:
    """Convolution GFLOP per picture, and the GB moved if each convolution reads and writes its tensors once."""
    from rtseg.engines.tensorrt.typed_graph import CONVOLUTIONS, convolution_macs, typed_graph

    model = typed_graph(artifact.file("fp32"), "fp32", size_hw).model
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    elements = {v.name: int(np.prod([d.dim_value for d in v.type.tensor_type.shape.dim])) for v in values}
    elements |= {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in CONVOLUTIONS]
    moved = sum(elements[name] for node in nodes for name in (*node.input, *node.output))
    return {
        "gflop": round(2 * sum(convolution_macs(model).values()) / 1e9, 2),
        "gb": round(moved * bytes_each / 1e9, 4),
    }


def torch_labels(artifact: Artifact, precision: str, size_hw: Size, runs: int) -> dict[str, float]:
    """Interpolation and argmax by torch on the GPU, eager and compiled, on random logits: median ms of each."""
    import torch
    import torch.nn.functional as F

    stride, classes = artifact.card.logits_stride, len(artifact.card.labels)
    kind = torch.float16 if precision == "fp16" else torch.float32
    logits = torch.randn(1, classes, size_hw[0] // stride, size_hw[1] // stride, device="cuda").to(kind)

    def labels(given: torch.Tensor) -> torch.Tensor:
        if stride > 1:
            given = F.interpolate(given, size_hw, mode="bilinear", align_corners=False)
        return given.argmax(1).to(torch.uint8)

    compiled = torch.compile(labels, mode="max-autotune", dynamic=False)
    with torch.inference_mode():
        seconds = {
            "eager": median_s(lambda: labels(logits), runs),
            "compiled": median_s(lambda: compiled(logits), runs),
        }
    return {name: round(value * 1e3, 4) for name, value in seconds.items()}


def loop_row(model: str, precision: str, size_hw: Size, plan: Plan, folder: Path) -> dict[str, Any]:
    """The loop of `rtseg-cam --no-window` on a video of the network's size, and decoding that file alone."""
    from street_video import make_video

    from rtseg.live.loop import Loop
    from rtseg.live.painter import Painter
    from rtseg.live.segmenter import Segmenter
    from rtseg.pictures.resize import limit_threads
    from rtseg.sinks.base import NullSink
    from rtseg.sources.open import open_source

    video = folder / f"{format_size(size_hw)}-{plan.frames}.mp4"
    if not video.exists():
        make_video(video, size_hw, plan.frames)
    budget = thread_budget()
    limit_threads(budget.opencv)
    with open_source(str(video), threads=budget.codec) as source:
        start = perf_counter()
        decoded = sum(1 for _ in source)
        decode_s = perf_counter() - start
    with Segmenter(RunSpec(model, "tensorrt", precision, size_hw)) as segmenter:
        segmenter.prepare(size_hw)
        painter = Painter()
        painter.prepare(segmenter.labels)
        source = open_source(str(video), threads=budget.codec)
        report = Loop(source, segmenter, draw=painter, sinks=[NullSink()]).run()
    return {
        "decode_fps": round(decoded / decode_s, 1),
        "loop_fps": round(report.fps, 1),
        "latency_ms": report.latency_ms,
        "stages_ms": report.stages_ms,
        "frames": report.frames,
    }


def miou_row(engine_name: str, model: str, precision: str, plan: Plan) -> dict[str, Any]:
    """mIoU on CamVid's val split, at the input size that `rtseg eval` chooses."""
    from rtseg.datasets import open_data
    from rtseg.live.segmenter import Segmenter
    from rtseg.metrics.evaluate import evaluate

    data = open_data("camvid", plan.root, "val")
    with Segmenter(RunSpec(model, engine_name, precision)) as segmenter:
        figures = evaluate(segmenter, samples(data), data.labels).to_json()
        return {"miou": figures["miou"], "frames": len(data), "size": list(segmenter.info.size_hw)}


def samples(data: Any) -> Iterator[Any]:
    return (data.sample(index) for index in range(len(data)))
