"""Finds the convolutions that lose most from INT8: quantises each alone, on the CPU, and counts changed labels."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from rtseg.engines.tensorrt.fixed_graph import fix_shape
from rtseg.engines.tensorrt.qdq import quantise_for_tensorrt
from rtseg.int8.quantise import QuantizationPlan, Ranges


@dataclass(frozen=True)
class Sensitivity:
    """How quantising one convolution alone changes the coarse output."""

    convolution: str
    differing: float  # share of output cells whose class changes
    error: float  # relative error of the logits, |made - float| / |float|


def emulate(model: onnx.ModelProto) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs a typed graph on the CPU: uint8 (h, w, 3) -> logits float32 (C, h/s, w/s).

    onnxruntime computes the graph as written, quantisation included, in float. It must not use integer kernels: on CPUs
    without VNNI they saturate for signed activations with 8-bit weights, which no GPU does.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 0
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session: Any = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(image: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run(None, {name: image[None]})[0][0]
        return logits.astype(np.float32)

    return run


def measure_sensitivity(
    path: Path, ranges: Ranges, images: Sequence[np.ndarray], track: Callable[[Iterable[str]], Iterable[str]] = iter
) -> list[Sensitivity]:
    """Every convolution that INT8 would quantise, most sensitive first.

    Args:
        path: FP32 ONNX file.
        ranges: activation ranges from its card.
        images: uint8 BGR (h, w, 3), all of one size that the network takes.
        track: wraps the list of convolutions to show progress.

    Raises:
        WeightsError: see `typed_graph`.
    """
    model = fix_shape(path, (images[0].shape[0], images[0].shape[1]))
    names = [node.name for node in QuantizationPlan(model).convolutions]
    run = emulate(model)
    expected = [run(image) for image in images]
    found = []
    for name in track(names):
        rounded, _ = quantise_for_tensorrt(model, ranges, [other for other in names if other != name])
        run = emulate(rounded)
        found.append(_compare(name, expected, [run(image) for image in images]))
    return sorted(found, key=lambda entry: (entry.differing, entry.error), reverse=True)


def _compare(name: str, expected: list[np.ndarray], made: list[np.ndarray]) -> Sensitivity:
    pairs = list(zip(expected, made, strict=True))
    differing = float(np.mean([(left.argmax(0) != right.argmax(0)).mean() for left, right in pairs]))
    error = float(np.mean([np.linalg.norm(right - left) / np.linalg.norm(left) for left, right in pairs]))
    return Sensitivity(name, differing, error)
